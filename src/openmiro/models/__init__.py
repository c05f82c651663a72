"""Backbones behind the `Denoiser` protocol."""
