"""The colours of the pictures: perceptually uniform scales, warm early and cold late."""

from typing import Any

import numpy as np

NEVER = "#b4b4b4"  # tissue that did not activate
INK = "#1b1b1f"  # text, axes, isochrones
VOLTAGE_RANGE = (-85.0, 40.0)  # mV, of films
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe-Ito
_TRIM = (0.12, 0.97)  # the ends of plasma are too dark for isochrones or too pale for white paper


def activation_colours() -> Any:
    """Matplotlib colour map of activation times: yellow first, violet last."""
    return _trimmed("plasma_r", "activation", 1.0 - _TRIM[1], 1.0 - _TRIM[0])


def voltage_colours() -> Any:
    """Matplotlib colour map of the transmembrane voltage: violet at rest, yellow at the peak."""
    return _trimmed("plasma", "voltage", *_TRIM)


def potential_colours() -> Any:
    """Matplotlib colour map of potentials around zero: blue negative, red positive."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["RdBu_r"](np.linspace(0.06, 0.94, 255)), "potential")


def colour_stops(colours: Any, count: int = 33) -> list[tuple[float, str]]:
    """Evenly spaced (position, hex colour) pairs of a colour map, as plotly wants them."""
    from matplotlib.colors import to_hex

    return [(float(x), to_hex(colours(x))) for x in np.linspace(0.0, 1.0, count)]


def look_up(colours: Any, values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Colours of values, grey for NaN.

    Args:
        colours: a colour map of this module.
        values: [values].
        span: the values at its ends.

    Returns:
        float32 [values, 3], 0 to 1.
    """
    from matplotlib.colors import to_rgb

    table = np.array([*colours.colors[:, :3], to_rgb(NEVER)], np.float32)
    last = len(table) - 2
    place = (values - span[0]) * (last / (span[1] - span[0]))
    np.clip(place, 0, last, out=place)  # NaN stays NaN
    np.nan_to_num(place, copy=False, nan=last + 1)
    return table.take(place.astype(np.intp), axis=0)


def _trimmed(source: str, name: str, low: float, high: float) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[source](np.linspace(low, high, 256)), name)
