"""Restitution of the conduction velocity on a cable, all intervals in one run."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from cardiotwin.anatomy.fibres import uniform_fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.pacing import pace
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus

from .corrected import CorrectedDiffusion
from .observe import ActivationTime
from .problem import Monodomain
from .scheme import AbstractScheme, Godunov
from .solve import solve
from .strip import Strip, side_by_side

# Along the fibres, of the N-version benchmark: 0.6 m/s with ten Tusscher-Panfilov.
DIFFUSIVITY = 0.0953  # mm2/ms
WIDTH = 2  # cubes across a cable
STIMULATED = 2.0  # mm of every cable
# Where the velocity is measured, as shares of the length.
WINDOW = (0.4, 0.8)
QUIET_DT = 0.2  # ms
INTERVALS = (1000, 800, 600, 500, 450, 400, 380, 360, 350, 340, 330, 320, 310, 300)  # ms
"""Intervals that fit human ventricular cells."""


class VelocityRestitution(NamedTuple):
    """Velocity of the wave that a premature stimulus starts.

    Attributes:
        s1: cycle length of the train, ms.
        interval: from S1 to S2, ms, ascending.
        velocity: of the wave of S2, m/s; 0 where it fails.
        conducted: whether it passed the cable.
    """

    s1: float
    interval: Float[np.ndarray, " intervals"]
    velocity: Float[np.ndarray, " intervals"]
    conducted: Bool[np.ndarray, " intervals"]


def velocity_restitution(
    cell: AbstractIonicModel,
    intervals: ArrayLike = INTERVALS,
    *,
    s1: float = 1000.0,
    beats: int = 10,
    diffusivity: float = DIFFUSIVITY,
    length: float = 20.0,
    edge: float = 0.2,
    dt: float = 0.05,
    scheme: AbstractScheme | None = None,
    precision: str = "float32",
) -> VelocityRestitution:
    """Let a second wave follow a first along a cable after every interval.

    The cells are paced singly at `s1`; then a wave runs along every cable, and a second one after
    the cable's interval. The velocity is measured between 40 and 80 % of the length.

    Args:
        cell: an ionic model with scalar parameters.
        intervals: from S1 to S2, ms, multiples of `dt`, in any order.
        s1: cycle length of the train, ms.
        beats: of the train.
        diffusivity: mm2/ms.
        length: of the cables, mm.
        edge: of the cubes, mm.
        dt: time step, ms.
        scheme: operator splitting; corrected explicit diffusion when left out.
        precision: "float32" or "float64".

    Raises:
        ValueError: intervals that are not positive or exceed `s1`, a cable shorter than 20 edges,
            or parameters per node.
    """
    s2 = np.unique(np.asarray(intervals, float))
    if not s2.size or s2[0] <= 0 or s2[-1] > s1:
        raise ValueError(
            f"velocity_restitution: intervals {intervals} for S1 = {s1:g} ms; give positive ones "
            "of at most S1."
        )
    if length < 20 * edge or not diffusivity > 0:
        raise ValueError(
            f"velocity_restitution: a cable of {length:g} mm with edges of {edge:g} mm and a "
            f"diffusivity of {diffusivity:g} mm2/ms; give 20 edges or more and a positive one."
        )
    cell = cell.starting_from(pace(cell, cycle_length=s1, beats=beats, dt=dt))
    cables = [_cable(length, edge)] * len(s2)
    mesh = side_by_side(cables)
    number = np.repeat(np.arange(len(s2)), len(cables[0].mesh.points))
    position = np.concatenate([cable.position for cable in cables])
    near = np.flatnonzero(position <= STIMULATED)
    last = s2[-1] + 1.0  # S2 everywhere; S1 before it, by the interval of each cable
    first = NodalStimulus(near, onset=last - s2[number[near]])
    sigma = np.full((len(mesh.cells), 3), 2.0 * diffusivity)
    fibres = uniform_fibres(len(mesh.cells), (1.0, 0.0, 0.0), None)
    problem = Monodomain(
        mesh,
        Tissue(fibres, sigma, sigma, chi=1.0, c_m=1.0),
        cell,
        first + NodalStimulus(near, onset=last),
    )
    # slow waves have a tenth of the usual velocity
    t1 = np.ceil(last + length / 0.06)
    solution = solve(
        problem,
        t1,
        dt=dt,
        scheme=Godunov(CorrectedDiffusion()) if scheme is None else scheme,
        observe={"second": ActivationTime(cell.activation_threshold, after=last)},
        quiet_dt=QUIET_DT,
        precision=precision,
        on_frame=lambda frame: float(frame.outputs["second"]) == 1.0,
    )
    times = np.asarray(solution.observed["second"]).reshape(len(s2), -1)
    velocity = np.array([_velocity(cables[0].position, row) for row in times])
    return VelocityRestitution(s1, s2, velocity, velocity > 0)


def _cable(length: float, edge: float) -> Strip:
    mesh = slab((length, WIDTH * edge, WIDTH * edge), edge)
    unit = np.eye(3)
    return Strip(mesh, unit[0], unit[1], mesh.points[:, 0], np.ones(len(mesh.points), bool))


def _velocity(x: np.ndarray, activation: np.ndarray) -> float:
    inside = (x >= WINDOW[0] * x.max()) & (x <= WINDOW[1] * x.max())
    if not np.isfinite(activation[inside]).all():
        return 0.0
    slowness = np.polyfit(x[inside], activation[inside], 1)[0]
    return float(1.0 / slowness) if slowness > 0 else 0.0
