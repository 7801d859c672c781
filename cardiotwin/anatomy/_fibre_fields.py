"""Fibre and sheet directions that come with a mesh: found by name, averaged, matched, checked."""

import warnings
from pathlib import Path

import numpy as np

# Names under which programs store the directions, lower case, without separators.
_NAMES = {
    "fibre": ("fibre", "fibres", "fiber", "fibers", "fibredir", "fiberdir", "f0", "fibredirection",
              "fiberdirection", "fibreorientation", "fiberorientation", "longitudinal"),
    "sheet": ("sheet", "sheets", "sheetdir", "s0", "sheetdirection", "sheetorientation",
              "transverse"),
}  # fmt: skip
_UNIT_TOLERANCE = 1e-4  # lengths this close to 1 are left as they are, so that files round-trip
_BOX_FILL = 0.95  # a mesh that fills its bounding box is a block, where uniform fibres make sense


def take_directions(
    path: Path, cells: np.ndarray, point_data: dict, cell_data: dict, *, average: bool = True
) -> dict[str, np.ndarray]:
    """Take "fibre" and "sheet" per element out of fields of any known name.

    Fields per node are averaged over the nodes of each element with their signs aligned (unless
    told not to). The fields found are removed from the two dictionaries.

    Returns:
        "fibre" and "sheet" [elements, 3], those that were found, not yet checked.
    """
    found: dict[str, np.ndarray] = {}
    for target, names in _NAMES.items():
        for fields, per_node in ((cell_data, False), (point_data, True)):
            for name in list(fields):
                if _plain(name) in names and fields[name].shape[1:] == (3,):
                    values = np.asarray(fields.pop(name), np.float64)
                    if target not in found:
                        found[target] = _per_element(values, cells, per_node and average)
                    else:
                        warnings.warn(
                            f"{path.name}: {name!r} is a second {target} direction and is left out",
                            UserWarning,
                            stacklevel=3,
                        )
    return found


def average_to_elements(directions: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean direction of each element's nodes, whatever the sign each node carries [elements, 3].

    Args:
        directions: [nodes, 3]; nodes with a zero or NaN vector do not count.
        cells: [elements, 4].
    """
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    valid = (length > 0) & np.isfinite(length)
    unit = np.where(valid, directions / np.where(valid, length, 1.0), 0.0)
    corners = unit[cells]
    reference = corners[np.arange(len(cells)), np.argmax(valid[cells][..., 0], axis=1)]
    for _ in range(2):  # align to one node, then to the mean of all
        sign = np.where(np.einsum("eci,ei->ec", corners, reference) < 0, -1.0, 1.0)
        reference = np.einsum("ec,eci->ei", sign, corners)
    return reference


def checked_directions(
    path: Path,
    found: dict[str, np.ndarray],
    points: np.ndarray,
    volume: float,
    *,
    allow_uniform: bool,
) -> dict[str, np.ndarray]:
    """Directions of unit length; placeholders are dropped with a warning.

    A field whose rows are all alike is a placeholder, except on a block (a slab's fibres are
    uniform) or where `allow_uniform` says that it is meant.

    Raises:
        ValueError: some directions are NaN or infinite.
    """
    for name, values in found.items():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{path}: the {name} direction is NaN or infinite in {len(bad)} of {len(values)} "
                f"elements, such as element {bad[0]}: keep only the regions that have fibres "
                "(keep=...), or leave the directions out with fibres=False"
            )
    is_block = volume >= _BOX_FILL * np.prod(np.ptp(points, axis=0))
    uniform = [name for name, values in found.items() if _is_uniform(values)]
    if uniform and not allow_uniform and not is_block:
        warnings.warn(
            f"{path.name}: one {' and one '.join(uniform)} direction for all elements is a "
            "placeholder and is dropped: build fibres by rule, or keep it with "
            "allow_uniform_fibres=True",
            UserWarning,
            stacklevel=3,
        )
        found = {name: values for name, values in found.items() if name not in uniform}
    return {name: _unit(path, name, values) for name, values in found.items()}


def _per_element(values: np.ndarray, cells: np.ndarray, average: bool) -> np.ndarray:
    return average_to_elements(values, cells) if average else values


def _is_uniform(values: np.ndarray) -> bool:
    return len(values) > 1 and bool((values == values[0]).all())


def _unit(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    none = int((length == 0).sum())
    if none:
        warnings.warn(
            f"{path.name}: the {name} direction is zero in {none} of {len(values)} elements",
            UserWarning,
            stacklevel=4,
        )
    off = (np.abs(length - 1.0) > _UNIT_TOLERANCE) & (length > 0)
    return np.where(off, values / np.where(length > 0, length, 1.0), values)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
