"""Reward models, the catalog that names them, and the levels that turn their raw scores into conditions."""
