"""Voxel grids as files: NumPy's .npz, which holds every array bit by bit and runs no code."""

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from cardiotwin.anatomy.voxels import Voxels

_PLAIN = ("mask", "spacing", "origin", "axes", "regions")
_GROUPS = {"surface": "surfaces", "node": "point_data", "voxel": "cell_data"}


def write_voxels(path: str | os.PathLike[str], grid: Voxels) -> None:
    """Write a grid with regions, surfaces and fields, whole or not at all.

    Args:
        path: ends in .npz.
        grid: the grid.
    """
    path = Path(path)
    arrays = {name: getattr(grid, name) for name in _PLAIN}
    for group, name in _GROUPS.items():
        arrays |= {f"{group}/{key}": value for key, value in getattr(grid, name).items()}
    labels, names = zip(*grid.region_names, strict=True) if grid.region_names else ((), ())
    arrays["region_labels"] = np.array(labels, np.int64)
    arrays["region_names"] = np.array(names, dtype=np.str_)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as room:
        made = Path(room) / "grid.npz"
        np.savez_compressed(made, **arrays)
        os.replace(made, path)


def read_voxels(path: str | os.PathLike[str]) -> Voxels:
    """Read what `write_voxels` wrote.

    Raises:
        ValueError: the file is missing, damaged or holds something else.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        groups = {
            name: {
                key.partition("/")[2]: value
                for key, value in arrays.items()
                if key.startswith(f"{group}/")
            }
            for group, name in _GROUPS.items()
        }
        named = zip(arrays["region_labels"].tolist(), arrays["region_names"].tolist(), strict=True)
        plain = {name: arrays[name] for name in _PLAIN}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no voxels that can be read ({error}); make it anew") from error
    return Voxels(
        plain.pop("mask"),
        plain.pop("spacing"),
        **plain,
        **groups,
        region_names=list(named),
        allow_components=True,
    )
