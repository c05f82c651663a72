"""From a source to a dataset: `annotate` reads and scores, `encode` makes latents and text, levels are fitted."""

from openmiro.annotate.levels import check_levels, fit_dataset_levels
from openmiro.annotate.stages import AnnotateReport, EncodeReport, annotate, encode

__all__ = ["AnnotateReport", "EncodeReport", "annotate", "check_levels", "encode", "fit_dataset_levels"]
