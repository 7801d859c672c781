"""Array aliases with named axes, and the one way to declare a model parameter."""

from typing import Annotated, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

type_array = jax.Array | np.ndarray

NodeScalar = Float[type_array, "nodes"]
NodeVector = Float[type_array, "nodes 3"]
ElementScalar = Float[type_array, "elements"]
ElementVector = Float[type_array, "elements 3"]
ElementTensor = Float[type_array, "elements 3 3"]
PerNode = Float[type_array, "*nodes"] | float
Cells = Int[type_array, "elements 4"]
# Numbers with a unit: a configuration may give text such as "2 cm" for them.
Millimetres = Annotated[float, "mm"]
Milliseconds = Annotated[float, "ms"]
MillivoltsPerMillisecond = Annotated[float, "mV/ms"]
MillisiemensPerMillimetre = Annotated[float, "mS/mm"]
MetresPerSecond = Annotated[float, "m/s"]
Degrees = Annotated[float, "degree"]
Faces = Int[type_array, "faces 3"]


def param(default: float, unit: str, **metadata: Any) -> Any:
    """Declare a model parameter: an array leaf with a default and a documented unit.

    Args:
        default: the published value.
        unit: its unit as pint reads it ("ms", "mV", "nS/pF", "" for a pure number).
        **metadata: anything else a table of parameters should show (``meaning=...``).

    Returns:
        A dataclass field; its ``metadata["unit"]`` names the unit.
    """
    return eqx.field(default=default, metadata={"unit": unit, **metadata})
