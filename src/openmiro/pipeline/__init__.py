"""Sampling: a trained checkpoint as one object that is called with prompts and reward targets."""

from openmiro.pipeline.metadata import PictureMetadata, read_png, write_png
from openmiro.pipeline.output import MiroPipelineOutput
from openmiro.pipeline.pipeline import MiroPipeline
from openmiro.pipeline.targets import Targets

__all__ = ["MiroPipeline", "MiroPipelineOutput", "PictureMetadata", "Targets", "read_png", "write_png"]
