"""A picture of an image of labels as it came, for one that no heart could be made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.imaging import LabelImage
from cardiotwin.results._palette import INK
from cardiotwin.results.figures import _figure, _save

_AXES = ("first", "second", "third")
_MOST = 9  # labels with a colour of their own, the most frequent ones
_DPI = 130


def draw_labels(
    path: Path | str,
    image: LabelImage,
    table: Mapping[str, Sequence[int]],
    place: Float[np.ndarray, " 3"] | None = None,
) -> Path:
    """Draw three sections through an image, along its own axes, with its labels in colour.

    Args:
        path: of the picture, .png.
        image: as it was read.
        table: labels by name of part.
        place: where the sections cross, mm, marked; the middle of the labels, not marked, when left
            out.

    Returns:
        The path.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    shape = np.array(image.labels.shape)
    middle = 0.5 * shape if place is None else image.axes @ (place - image.corner) / image.edges
    index = np.clip(middle.astype(int), 0, shape - 1)
    present, count = np.unique(image.labels[image.labels != 0], return_counts=True)
    shown = np.sort(present[np.argsort(-count)[:_MOST]])
    colours = np.vstack(
        [[1.0, 1.0, 1.0], colormaps["Set1"](np.arange(len(shown)))[:, :3], [[0.5] * 3]]
    )
    number = np.where(np.isin(image.labels, shown), np.searchsorted(shown, image.labels) + 1, 0)
    number[(image.labels != 0) & (number == 0)] = len(shown) + 1
    figure = _figure(12.0, 4.9)
    for k in range(3):
        across, up = (a for a in range(3) if a != k)
        size = shape * image.edges
        panel = figure.add_axes((0.05 + 0.325 * k, 0.17, 0.265, 0.74))
        panel.imshow(
            colours[np.take(number, index[k], axis=k).T],
            origin="lower",
            extent=(0.0, size[across], 0.0, size[up]),
            interpolation="nearest",
        )
        if place is not None:
            at = middle * image.edges
            panel.plot(at[across], at[up], "o", ms=26, mfc="none", mec="black", mew=1.8)
        panel.set_title(f"voxel {index[k]} of the {_AXES[k]} axis", size=9, color=INK)
        panel.set_xlabel(f"{_AXES[across]} axis, mm", size=8)
        panel.set_ylabel(f"{_AXES[up]} axis, mm", size=8)
        panel.tick_params(labelsize=7)
    names = {label: name for name, labels in table.items() for label in labels}
    handles = [
        Patch(color=tuple(colour), label=f"{label} {names.get(int(label), '')}".strip())
        for label, colour in zip(shown.tolist(), colours[1:], strict=False)
    ]
    if len(present) > len(shown):
        handles.append(Patch(color=tuple(colours[-1]), label=f"{len(present) - len(shown)} others"))
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), fontsize=8, frameon=False)
    return _save(figure, path, _DPI)
