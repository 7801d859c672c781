"""Checkpoints of a run: one file, written whole or not at all, tied to its physics."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import numpy as np

from cardiotwin._version import __version__
from cardiotwin.propagation.solve import Checkpoint
from cardiotwin.results._files import atomic_path
from cardiotwin.twin import Twin

from .experiment import Solver

FILE = "checkpoint.npz"


class Saved(NamedTuple):
    """A checkpoint and the samples recorded up to it."""

    checkpoint: Checkpoint
    records: dict[str, np.ndarray]


def physics_hash(twin: Twin, solver: Solver, observed: list[str]) -> str:
    """Hash of all that decides the solution but its end: two runs with it can be joined."""
    digest = hashlib.sha256()
    stimulus = (twin.stimulus, twin.stimulus.pulses(twin.mesh.points))
    system = (twin.tissue.diffusion(), twin.cell, stimulus)
    for leaf in jax.tree.leaves((twin.mesh.points, twin.mesh.cells, system)):
        array = np.ascontiguousarray(leaf)
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(array.tobytes())
    options = (
        *(solver.dt, solver.quiet_dt, solver.multirate, solver.every),
        *(solver.precision, solver.scheme),
        sorted(observed),
    )
    digest.update(repr((__version__, type(twin.cell).__name__, options)).encode())
    return digest.hexdigest()


def save(folder: Path, key: str, checkpoint: Checkpoint, records: dict[str, np.ndarray]) -> None:
    """Write the checkpoint of a run."""
    arrays: dict[str, Any] = {f"leaf_{i:03d}": x for i, x in enumerate(checkpoint.leaves)}
    arrays |= {f"record_{name}": values for name, values in records.items()}
    with atomic_path(folder / FILE) as temporary, open(temporary, "wb") as file:
        np.savez(file, physics=np.array(key), step=np.array(checkpoint.step), **arrays)


def load(folder: Path, key: str) -> Saved | None:
    """Read the checkpoint of a run; None where there is none.

    Raises:
        ValueError: it belongs to another heart, another configuration or another version, or is
            damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        physics, step = str(arrays["physics"]), int(arrays["step"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ValueError(
            f"The checkpoint {path} is damaged ({error}). Delete it; --resume then starts anew."
        ) from error
    if physics != key:
        raise ValueError(
            f"The checkpoint {path} was made with other physics: mesh, tissue, cells, "
            "stimulus, time step or version differ. Resume with the configuration it was made "
            "with (config.yaml beside it), or start anew in another folder."
        )
    leaves = tuple(arrays[name] for name in sorted(arrays) if name.startswith("leaf_"))
    records = {
        name.removeprefix("record_"): values
        for name, values in arrays.items()
        if name.startswith("record_")
    }
    return Saved(Checkpoint(step, leaves), records)
