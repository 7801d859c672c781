"""Fibre and sheet angles across the walls, with what the rule asked for drawn over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.fibre_profile import SEPTUM, AngleProfile
from cardiotwin.results._palette import INK, LINES
from cardiotwin.results.figures import _figure, _save

_NAMES = {"helix": "helix angle (°)", "sheet": "sheet angle (°)"}
_DPI = 150
_STEP = 10.0  # degrees


def fibre_angles(
    path: Path | str,
    profiles: Mapping[str, Mapping[str, AngleProfile]],
    *,
    title: str = "Fibre angles across the walls",
) -> Path:
    """Draw angles against the depth in each wall: median, bands of spread, prescription, error.

    Args:
        path: the picture; its suffix chooses the format.
        profiles: wall -> "helix" and "sheet" -> profile, from
            `cardiotwin.anatomy.fibre_profile.angle_profiles`.
        title: over the picture.

    Returns:
        The path.

    Raises:
        ValueError: there is no profile.
        DiskFull: when the picture does not fit on the disk.
    """
    from matplotlib.ticker import MultipleLocator

    kinds = [kind for kind in _NAMES if any(kind in profile for profile in profiles.values())]
    if not kinds:
        raise ValueError("no fibre angles to draw: expected a profile of one wall or more")
    figure = _figure(10.5, 0.9 + 2.9 * len(kinds))
    panels = figure.subplots(len(kinds), len(profiles), sharey="row", squeeze=False)
    for row, kind in enumerate(kinds):
        for column, (wall, found) in enumerate(profiles.items()):
            panel = panels[row][column]
            _panel(panel, found[kind], LINES[0] if kind == "helix" else LINES[2])
            ends = ("LV side", "RV side") if wall == SEPTUM else ("endo", "epi")
            panel.set_xticks([0.0, 0.5, 1.0], [f"0\n{ends[0]}", "0.5", f"1\n{ends[1]}"])
            if row == 0:
                panel.set_title(wall, size=10, color=INK)
        panels[row][0].set_ylabel(_NAMES[kind])
        low, high = _limits([found[kind] for found in profiles.values()])
        panels[row][0].set_ylim(low, high)
        panels[row][0].yaxis.set_major_locator(MultipleLocator(30 if high - low > 90 else 10))
    figure.suptitle(title, x=0.02, ha="left", size=11, weight="bold", color=INK)
    figure.supxlabel("depth in the wall (Laplace); septum seen from the left", size=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncol=len(labels), frameon=False, fontsize=8.5)
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 0.97))
    return _save(figure, path, _DPI)


def _panel(panel: Any, profile: AngleProfile, colour: str) -> None:
    low, first, middle, third, high = profile.quantiles.T
    panel.fill_between(profile.depth, low, high, color=colour, alpha=0.15, lw=0, label="90 %")
    panel.fill_between(profile.depth, first, third, color=colour, alpha=0.35, lw=0, label="50 %")
    panel.plot(profile.depth, middle, color=colour, lw=1.6, label="median")
    if profile.wanted is not None:
        panel.plot(profile.depth, profile.wanted, "--", color=INK, lw=1.2, label="prescribed")
    text = f"{profile.elements:,} elements"
    if profile.mean_error is not None:
        text = f"mean error {profile.mean_error:.1f}°\n{text}"
    panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", size=8.5)
    panel.set_xlim(0.0, 1.0)
    panel.grid(color="#e3e3e6", lw=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _limits(profiles: Sequence[AngleProfile]) -> tuple[float, float]:
    """Whole steps around all bands, with room for the text above them."""
    low = min(float(p.quantiles.min(initial=0.0)) for p in profiles)
    high = max(float(p.quantiles.max(initial=0.0)) for p in profiles)
    room = 0.2 * (high - low)
    return _STEP * np.floor((low - 1.0) / _STEP), _STEP * np.ceil((high + room) / _STEP)
