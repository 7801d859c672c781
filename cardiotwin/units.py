"""The coherent unit system (mm, ms, mV, uA, uF, mS) and the reading of quantities at the rim.

In these units the equations need no factors: mS * mV = uA, uF * mV / ms = uA, S/m = mS/mm,
mm/ms = m/s. Everything inside the package is in them; `quantity` reads what a person wrote
("0.17 S/m", "1400/cm", "3 min"), and the named factors below convert where a file or a figure
speaks another unit.

| quantity | unit | also written as |
|---|---|---|
| length | mm | |
| time | ms | |
| voltage | mV | |
| conductivity | mS/mm | S/m (the same number) |
| surface-to-volume ratio | 1/mm | 140 1/mm = 1400 1/cm |
| membrane capacitance | uF/mm**2 | 0.01 uF/mm**2 = 1 uF/cm**2 |
| diffusion | mm**2/ms | 0.1 mm**2/ms = 1 cm**2/s |
| velocity | mm/ms | m/s (the same number) |
| stimulus current | uA/mm**3 | |
"""

import functools
from typing import Any

import numpy as np

UM_PER_MM = 1000.0
MM_PER_CM = 10.0
MM_PER_M = 1000.0
MM3_PER_ML = 1000.0
MS_PER_S = 1000.0
MS_PER_MIN = 60.0 * MS_PER_S
MV_PER_V = 1000.0
UV_PER_MV = 1000.0
MM2_PER_CM2 = MM_PER_CM**2

# Powers of ten that turn a length in the named unit into mm (an exact decimal shift for text).
LENGTH_EXPONENTS = {"um": -3, "mm": 0, "cm": 1, "m": 3}

_ALIASES = {"micrometre": "um", "micrometer": "um", "μm": "um", "µm": "um"}


def length_exponent(unit: str) -> int:
    """The power of ten that turns a length in `unit` into millimetres.

    Args:
        unit: "um", "mm", "cm" or "m".

    Raises:
        ValueError: for any other unit.
    """
    name = _ALIASES.get(unit, unit)
    if name not in LENGTH_EXPONENTS:
        raise ValueError(
            f"the length unit {unit!r} is not known: use one of {', '.join(LENGTH_EXPONENTS)}"
        )
    return LENGTH_EXPONENTS[name]


def to_mm(values: Any, unit: str) -> np.ndarray:
    """Lengths in `unit` ("um", "mm", "cm" or "m") as float64 millimetres, correctly rounded."""
    return _shift(np.asarray(values, np.float64), length_exponent(unit))


def from_mm(values: Any, unit: str) -> np.ndarray:
    """Lengths in millimetres as float64 in `unit` ("um", "mm", "cm" or "m")."""
    return _shift(np.asarray(values, np.float64), -length_exponent(unit))


def quantity(value: Any, unit: str) -> Any:
    """Read a number, a text with a unit, or a list of either, as a number in `unit`.

    A plain number is taken to be in `unit` already. A text is read by pint, so "0.17 S/m",
    "1400/cm", "3 min" and "75 bpm" all work where the dimension fits.

    Args:
        value: a number, a text such as "0.17 S/m", an array, or a (nested) list of these.
        unit: the unit wanted, as pint reads it: "mS/mm", "1/mm", "ms", "" for a pure number.

    Returns:
        A float for a number or a text; a list in the same shape for a list or tuple; a float64
        array for an array.

    Raises:
        ValueError: the text is not a quantity, its dimension is not that of `unit`, or the value
            is NaN or infinite. The message says what was got, what was expected and how to mend.
    """
    if isinstance(value, (list, tuple)):
        return [quantity(item, unit) for item in value]
    if isinstance(value, np.ndarray) and value.ndim > 0:
        if value.dtype.kind not in "biuf":
            return np.asarray([quantity(item, unit) for item in value.tolist()], np.float64)
        return _finite(np.asarray(value, np.float64), value, unit)
    if isinstance(value, str):
        return float(_finite(_parse(value, unit), value, unit))
    if isinstance(value, (bool, complex)) or not hasattr(value, "__float__"):
        raise ValueError(
            f"got {value!r} where a quantity in {_named(unit)} is expected: give a number (taken "
            f"in {_named(unit)}) or a text with its unit, such as {_example(unit)}"
        )
    return _finite(float(value), value, unit)


def convert(value: Any, from_unit: str, to_unit: str) -> Any:
    """Convert numbers between two units that pint knows ("uF/cm**2" to "uF/mm**2").

    Raises:
        ValueError: the two units have different dimensions, or one is not known.
    """
    registry = _registry()
    try:
        factor = registry.Quantity(1.0, from_unit).to(to_unit).magnitude
    except Exception as error:
        raise ValueError(
            f"{from_unit!r} cannot be converted to {to_unit!r} ({error}): give two units of the "
            "same dimension"
        ) from error
    return np.asarray(value, np.float64) * factor if np.ndim(value) else float(value) * factor


def base_units(unit: str) -> tuple[float, dict[str, float]]:
    """A unit as a factor and powers of kilogram, meter, second, ampere, kelvin, mole, candela.

    Raises:
        ValueError: pint does not know the unit.
    """
    try:
        size = _registry().Quantity(1.0, unit or "dimensionless").to_base_units()
    except Exception as error:  # pint raises many kinds, some of them its tokenizer's
        raise ValueError(f"{unit!r} is no unit that pint knows ({error})") from error
    return float(size.magnitude), {str(name): float(power) for name, power in size.unit_items()}


def _shift(values: np.ndarray, exponent: int) -> np.ndarray:
    """Multiply by an exact power of ten; dividing rounds once where 1e-3 would round twice."""
    if exponent < 0:
        return values / 10.0**-exponent
    return values * 10.0**exponent


@functools.cache
def _registry() -> Any:
    import pint

    registry = pint.UnitRegistry(cache_folder=None)
    registry.define("beats_per_minute = 1 / minute = bpm")
    return registry


def _parse(text: str, unit: str) -> float:
    try:
        return float(text)  # "0.5" and "1e-3": a number that came as text
    except ValueError:
        pass
    registry = _registry()
    try:
        parsed = registry.Quantity(text)
    except Exception as error:  # pint raises many kinds, some of them its tokenizer's
        raise ValueError(
            f"got {text!r}, which is not a quantity ({error}): write a number and a unit, such as "
            f"{_example(unit)}"
        ) from error
    try:
        return float(parsed.to(unit or "dimensionless").magnitude)
    except Exception as error:
        raise ValueError(
            f"got {text!r}, a quantity in {_named(f'{parsed.units:~}')}, where one in "
            f"{_named(unit)} is expected: give a number (taken in {_named(unit)}) or a text with a "
            f"unit of that dimension, such as {_example(unit)}"
        ) from error


def _finite(number: Any, got: Any, unit: str) -> Any:
    if not np.all(np.isfinite(number)):
        raise ValueError(
            f"got {got!r} where a finite quantity in {_named(unit)} is expected: replace the NaN "
            "or infinite value"
        )
    return number


def _named(unit: str) -> str:
    return unit or "pure numbers"


def _example(unit: str) -> str:
    examples = {
        "mS/mm": '"0.17 S/m"',
        "1/mm": '"1400/cm"',
        "uF/mm**2": '"1 uF/cm**2"',
        "ms": '"2 s"',
        "mm": '"1.5 cm"',
        "mV": '"-85 mV"',
        "mm/ms": '"0.6 m/s"',
        "mm**2/ms": '"1 cm**2/s"',
        "": '"0.5"',
    }
    return examples.get(unit, f'"1 {unit}"')
