"""Cells that fire when the eikonal equation says so: repolarisation on meshes too coarse for waves.

A wavefront is thinner than a millimetre, the repolarisation of a heart is not. So every node gets a
current at its eikonal arrival time, and the ionic model does the rest (Neic et al. 2017,
doi:10.1016/j.jcp.2017.06.020): R-E+ with the diffusion of the physical conductivities, which lets
neighbours repolarise alike, or R-E- without any, every cell for itself.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from cardiotwin._types import type_array
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus

from .action import AMPLITUDE, DURATION
from .assembly import Twin

NO_DIFFUSION = 1e-9  # share of the diffusivity that counts as none


def reaction_eikonal(
    twin: Twin,
    activation: Float[type_array, " nodes"],
    *,
    latency: float,
    tissue: Tissue | None = None,
    coupled: bool = True,
) -> Twin:
    """The twin whose every node is excited at its eikonal time; solve its monodomain problem.

    Args:
        twin: heart and cells; its stimulus is replaced.
        activation: [nodes] ms; nodes whose time is not finite are left at rest.
        latency: from the foot current to activation, ms, see `CellActions`.
        tissue: with physical conductivities, not those tuned to carry waves on this mesh; the
            twin's own when left out.
        coupled: let neighbours exchange current (R-E+), or not (R-E-).

    Raises:
        ValueError: times of another mesh, or no node is ever reached.
    """
    times = np.asarray(activation, float)
    if times.shape != (len(twin.mesh.points),):
        raise ValueError(
            f"reaction_eikonal: got times of shape {times.shape} for a mesh of "
            f"{len(twin.mesh.points)} nodes; give those of the same mesh."
        )
    nodes = np.flatnonzero(np.isfinite(times))
    if not nodes.size:
        raise ValueError("reaction_eikonal: no node has a finite time; none would ever fire.")
    # nothing fires before the run begins
    onset = np.maximum(times[nodes] - latency, 0.0)
    foot = NodalStimulus(nodes, onset, amplitude=AMPLITUDE, duration=DURATION)
    tissue = twin.tissue if tissue is None else tissue
    if not coupled:
        tissue = replace(tissue, tuning=NO_DIFFUSION * np.asarray(tissue.tuning))
    return twin._replace(tissue=tissue, stimulus=foot)
