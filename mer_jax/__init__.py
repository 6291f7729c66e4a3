"""Multimodal emotion recognition in JAX: the MER2024-SEMI winner, at accelerator speed."""

import logging
import sys
from typing import Any

from mer_jax.runtime.signals import leave_on_signals

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # what Python has there while it looks for the command's module, whose imports take a while
    leave_on_signals()

# Said by transformers on import; nothing here needs PyTorch.
logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in record.getMessage())


def __getattr__(name: str) -> Any:
    """`Recognizer`, which brings JAX, when it is asked for."""
    if name == "Recognizer":
        from mer_jax.recognition.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
