"""FLOPs of the products in a traced program: a count that knows nothing of the ones made by hand."""

from math import prod
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def product_flops(function: Any, *arguments: Any, bodies_once: bool = False) -> float:
    """Of matrix products and convolutions in `function(*arguments)`, loops as often as they run.

    bodies_once: a loop's body counts once, as in XLA's cost analysis. That of a loop of unknown length always does.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, bodies_once)


def _count(jaxpr: Any, bodies_once: bool) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * terms * prod(equation.outvars[0].aval.shape)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, output_channels = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec[0]
            total += 2 * prod(kernel) / kernel[output_channels] * prod(equation.outvars[0].aval.shape)
        else:
            passes = equation.params["length"] if equation.primitive.name == "scan" else 1
            body = sum(_count(inner, bodies_once) for inner in jaxprs_in_params(equation.params))
            total += body * (min(passes, 1) if bodies_once else passes)
    return total
