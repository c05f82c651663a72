"""The lab quickstart: the whole method in minutes, from nothing to a report."""

from openmiro.quickstart.run import QuickstartResult, run_quickstart
from openmiro.quickstart.settings import EvaluationSettings, QuickstartSettings

__all__ = ["EvaluationSettings", "QuickstartResult", "QuickstartSettings", "run_quickstart"]
