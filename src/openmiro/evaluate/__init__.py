"""Evaluation: prompt sets, GenEval, intervals."""
