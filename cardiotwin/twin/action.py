"""The action potentials of a heart's cells without space: a shape, and a duration at every node."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator

from cardiotwin.ecg.eikonal_ecg import TabulatedAction
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.pacing import record

KINDS = 40  # of cells that are paced; between them durations are interpolated
BEAT = 1000.0  # ms
DT = 0.05  # ms
AMPLITUDE, DURATION = 52.0, 1.0  # mV/ms and ms, of the stimulus


class CellActions(NamedTuple):
    """Action potentials of the nodes of a heart.

    Attributes:
        action: the shape, of the cell whose duration is the median.
        rest: its potential at rest, mV.
        duration: [nodes] from activation to repolarisation, ms.
        latency: from the beginning of a stimulus of 52 mV/ms for 1 ms to activation, ms.
    """

    action: TabulatedAction
    rest: float
    duration: Float[np.ndarray, " nodes"]
    latency: float


def cell_actions(cell: AbstractIonicModel, nodes: int) -> CellActions:
    """Pace the cells of a heart once, apart from each other, from their initial states.

    Where parameters vary from node to node, some forty kinds of cells are paced and the durations
    of the others interpolated over the parameters. Neighbours that are coupled repolarise more
    alike than this.

    Args:
        cell: with scalar parameters, or one value a node.
        nodes: how many the heart has.

    Raises:
        ValueError: cells do not fire, or do not repolarise within a second.
    """
    varied = {row.name: np.asarray(getattr(cell, row.name)) for row in cell.parameters()}
    varied = {name: values for name, values in varied.items() if values.ndim}
    place = np.zeros((nodes, 1))
    if varied:
        columns = np.stack(list(varied.values()), axis=1).astype(float)
        spans = np.ptp(columns, axis=0)
        place = (columns - columns.min(axis=0)) / np.where(spans > 0, spans, 1.0)
    chosen = _far_apart(place, KINDS)
    # the initial states of mixed cells vary with their parameters
    kinds = jax.tree.map(lambda x: x[chosen] if np.shape(x) == (nodes,) else x, cell)
    found = record(
        kinds, cycle_length=BEAT, dt=DT, every=2 * DT, amplitude=AMPLITUDE, duration=DURATION,
        conserve_charge=False,
    )  # fmt: skip
    t, v = found.t, found.v.reshape(len(found.t), -1)
    up = _crossings(t, v, cell.activation_threshold, rising=True)
    down = _crossings(t, v, cell.repolarisation_threshold, rising=False)
    if not (np.isfinite(up).all() and np.isfinite(down).all()):
        raise ValueError(
            f"{type(cell).__name__}: {int((~np.isfinite(up + down)).sum())} of {len(up)} kinds of "
            f"cells do not fire and repolarise within {BEAT:g} ms when they are paced alone; an "
            "eikonal beat needs action potentials. Check the parameters, or solve the monodomain."
        )
    lasting = down - up
    duration = np.full(nodes, lasting[0])
    if len(chosen) > 1:
        # durations of cells that were paced stay within those of the paced
        spread = RBFInterpolator(place[chosen], lasting, kernel="linear", degree=0)
        duration = np.clip(spread(place), lasting.min(), lasting.max())
    middle = int(np.argsort(lasting)[len(lasting) // 2])
    begins = int(np.searchsorted(t, up[middle]))
    action = TabulatedAction(t[begins:] - t[begins], v[begins:, middle], duration=lasting[middle])
    return CellActions(action, float(v[-1, middle]), duration, float(up[middle]))


def _far_apart(place: np.ndarray, most: int) -> np.ndarray:
    """Indices of rows that lie far apart, one after the other, until all others are near."""
    chosen = [0]
    distance = np.linalg.norm(place - place[0], axis=1)
    while len(chosen) < most and distance.max() > 1e-6:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(place - place[chosen[-1]], axis=1))
    return np.array(chosen)


def _crossings(t: np.ndarray, v: np.ndarray, level: float, *, rising: bool) -> np.ndarray:
    """First rising or last falling crossing of a level in every column; NaN where there is none."""
    above = v >= level
    change = (~above[:-1] & above[1:]) if rising else (above[:-1] & ~above[1:])
    rows = (
        np.argmax(change, axis=0) if rising else len(change) - 1 - np.argmax(change[::-1], axis=0)
    )
    columns = np.arange(v.shape[1])
    low, high = v[rows, columns], v[rows + 1, columns]
    crossed = change.any(axis=0)
    share = (level - low) / np.where(crossed, high - low, 1.0)
    return np.where(crossed, t[rows] + share * (t[rows + 1] - t[rows]), np.nan)
