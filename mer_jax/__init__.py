"""Multimodal emotion recognition in JAX: the MER2024-SEMI winner, at accelerator speed."""

import logging

__version__ = "0.1.0"

# Said by transformers on import; nothing here needs PyTorch.
logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in record.getMessage())
