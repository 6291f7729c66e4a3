"""Types of arrays with their shapes: jaxtyping's, by which tests check the arrays of every call (tests/conftest.py).

What predicts does without jaxtyping: a type is then the array's alone.
"""

from typing import Any

try:
    from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Int32, Num, PRNGKeyArray, PyTree, Shaped, UInt8
    from jaxtyping import UInt32 as UInt32
except ModuleNotFoundError:
    from jax import Array

    class Unchecked:
        """Stands for a type with a shape."""

        def __class_getitem__(cls, array_and_shape: tuple[Any, str]) -> Any:
            return array_and_shape[0]

    Bool = Float = Float32 = Float64 = Int = Int32 = Num = Shaped = UInt8 = UInt32 = Unchecked  # type: ignore
    PRNGKeyArray, PyTree = Array, Any  # type: ignore
