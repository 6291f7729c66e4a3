"""Multimodal emotion recognition in JAX: the MER2024-SEMI winner, at accelerator speed."""

__version__ = "0.1.0"
