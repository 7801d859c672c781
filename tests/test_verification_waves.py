"""Travelling waves: the bistable wave whose speed is known, and the velocity of muscle.

u_t = D u_xx + k u (1 - u) (u - a) has the wave u = (1 - tanh((x - c t) / delta)) / 2 with
delta = sqrt(8 D / k) and c = sqrt(k D / 2) (1 - 2 a) (Nagumo, Arimoto and Yoshizawa 1962,
https://doi.org/10.1109/JRPROC.1962.288235, for the equation). The front's width is here that of its
rise from 10 to 90 %, 2.2 delta.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from tissues import NEVER, straight_fibres
from verification import SCHEMES, joined, ordinary

from cardiotwin._types import param
from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import TenTusscherPanfilov2006
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.stepping import rush_larsen
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import Godunov, ImplicitDiffusion, Prepared
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus, total

pytestmark = pytest.mark.convergence

# muscle-like: 0.6 m/s at D = 0.1 mm2/ms
DIFFUSIVITY, UNSTABLE, SPEED = 0.1, 0.1, 0.6
RATE = 2.0 * (SPEED / (1.0 - 2.0 * UNSTABLE)) ** 2 / DIFFUSIVITY
DELTA = np.sqrt(8.0 * DIFFUSIVITY / RATE)  # mm
WIDTH = 2.0 * np.arctanh(0.8) * DELTA  # mm, 10 to 90 %
# ms; explicit diffusion takes one stage at both, or their errors would not differ by a factor of 2
STEPS = (0.0016, 0.0008)
# the front starts at 6 delta, is timed from 10 to 18, and the bar ends at 23
START, FROM, TO, END = 6.0, 10.0, 18.0, 23.0


class NagumoState(NamedTuple):
    """Nothing but the voltage."""


class Nagumo(AbstractIonicModel):
    """The bistable reaction k u (1 - u) (u - a)."""

    State: ClassVar[type[Any]] = NagumoState
    gates: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float] = 0.5
    repolarisation_threshold: ClassVar[float] = 0.5

    v0: Any = param(0.0, "", meaning="initial u")
    k: Any = param(RATE, "1/ms", meaning="rate")
    a: Any = param(UNSTABLE, "", meaning="unstable state")

    def initial(self):
        return self.v0, NagumoState()

    def __call__(self, v, state):
        return -self.k * v * (1.0 - v) * (v - self.a), state


class Bar(NamedTuple):
    """A bar of tetrahedra: nodes per front width, and factor on its diffusivity."""

    per_width: int
    factor: float

    @property
    def scale(self):
        """Lengths grow with the root of the diffusivity."""
        return np.sqrt(self.factor)

    @property
    def mesh(self):
        h = self.scale * WIDTH / self.per_width
        return slab((END * self.scale * DELTA, h, h), h)


BARS = [Bar(4, 1.0), Bar(8, 1.0), Bar(16, 1.0), Bar(8, 0.25), Bar(8, 4.0)]
TITLE = "3. Bistable travelling wave: relative error of the speed"


def speeds(scheme, dt):
    """Speed of the wave along every bar, mm/ms, in one run."""
    meshes = [bar.mesh for bar in BARS]
    mesh, starts = joined(meshes)
    scale, factor = (
        np.concatenate([np.full(m.nodes, x) for m, x in zip(meshes, column, strict=True)])
        for column in ([b.scale for b in BARS], [b.factor for b in BARS])
    )
    front = (mesh.points[:, 0] / scale - START * DELTA) / DELTA
    cell = Nagumo(v0=0.5 * (1.0 - np.tanh(front)))
    sigma = 2.0 * DIFFUSIVITY * np.repeat(factor[mesh.cells[:, :1]], 3, axis=1)
    tissue = Tissue(straight_fibres(mesh), sigma, sigma, chi=1.0, c_m=1.0)
    t1 = dt * np.ceil((TO - START + 1.0) * DELTA / SPEED / dt)
    solution = solve(
        Monodomain(mesh, tissue, cell, NEVER),
        t1,
        dt=dt,
        scheme=scheme,
        observe={"activation": ActivationTime(0.5)},
        every=t1,
        precision="float64",
    )
    times = np.split(np.asarray(solution.observed["activation"]), starts[1:-1])
    return np.array(
        [
            axis_speed(m, t, FROM * DELTA * b.scale, TO * DELTA * b.scale)
            for b, m, t in zip(BARS, meshes, times, strict=True)
        ]
    )


def axis_speed(mesh, times, begin, end):
    """Distance over time between the nodes next to two places on the x axis."""
    on_axis = np.flatnonzero(np.all(np.abs(mesh.points[:, 1:]) < 1e-9, axis=1))
    x = mesh.points[on_axis, 0]
    first, last = (on_axis[np.abs(x - place).argmin()] for place in (begin, end))
    return (mesh.points[last, 0] - mesh.points[first, 0]) / (times[last] - times[first])


@pytest.mark.parametrize("name", ordinary(SCHEMES))
def test_bistable_wave(name, tabulate):
    coarse, fine = (speeds(SCHEMES[name].scheme, dt) for dt in STEPS)
    error = (2.0 * fine - coarse)[:3] / SPEED - 1.0  # without the first-order error of the step
    order = np.log2(error[1] / error[2])
    tabulate(
        TITLE,
        scheme=name,
        **{f"{bar.per_width} nodes a front": e for bar, e in zip(BARS[:3], error, strict=True)},
        order=order,
        **{f"8 nodes, dt {STEPS[-1]:g}": fine[1] / SPEED - 1.0},
    )
    assert abs(error[1]) < 0.005
    assert order == pytest.approx(SCHEMES[name].wave_order, rel=0.1)
    # the same problem in another unit of length: equal but for rounding
    scaled = fine[[3, 1, 4]] / np.sqrt([0.25, 1.0, 4.0])
    tabulate(
        "4. Speed over root of the diffusivity, edges scaled alike",
        scheme=name,
        **{f"D x {f:g}": s for f, s in zip((0.25, 1.0, 4.0), scaled, strict=True)},
    )
    np.testing.assert_allclose(scaled, scaled[1], rtol=1e-7)


# a cable of human ventricular muscle

ALONG, ACROSS = 0.0953, 0.012576  # mm2/ms, of the N-version benchmark
RATIO = np.sqrt(ALONG / ACROSS)
EDGE = 0.05  # mm, and as much finer across the fibres as waves are slower


class OldGates(Prepared):
    """Reaction with the gates of the step before, as is usual elsewhere."""

    def react(self, v, cell_state, t, fraction):
        dt = self.dt * fraction
        stimulus = total(self.pulses, t + dt / 2)
        return rush_larsen(self.cell, v, cell_state, dt, stimulus, centred=False)


class OldGodunov(Godunov):
    """Godunov splitting with old gates."""

    def setup(self, system, dt, dtype):
        new = super().setup(system, dt, dtype)
        return OldGates(new.diffuse, new.cell, new.pulses, new.dt)


def cable_speeds(scheme, dt):
    """Speed along the fibres and across them, mm/ms."""
    meshes = [slab((5.0 / f, EDGE / f, EDGE / f), EDGE / f) for f in (1.0, RATIO)]
    mesh, starts = joined(meshes)
    principal = np.repeat([ALONG, ACROSS], [len(m.cells) for m in meshes])
    sigma = 2.0 * np.repeat(principal[:, None], 3, axis=1)
    tissue = Tissue(straight_fibres(mesh), sigma, sigma, chi=1.0, c_m=1.0)
    reach = 0.525 / np.repeat([1.0, RATIO], [m.nodes for m in meshes])
    stimulus = NodalStimulus(np.flatnonzero(mesh.points[:, 0] < reach), duration=1.0)
    solution = solve(
        Monodomain(mesh, tissue, TenTusscherPanfilov2006.epi(), stimulus),
        8.0,
        dt=dt,
        scheme=scheme,
        observe={"activation": ActivationTime(-20.0)},
        every=8.0,
        precision="float64",
    )
    times = np.split(np.asarray(solution.observed["activation"]), starts[1:-1])
    return [
        axis_speed(m, t, 2.0 / f, 4.0 / f)
        for m, t, f in zip(meshes, times, (1.0, RATIO), strict=True)
    ]


def test_ten_tusscher_cable(tabulate):
    half = ImplicitDiffusion(consistent_mass=0.5)  # next to no error in space at this edge
    speeds = {}
    for name, scheme, dt in (
        ("old", OldGodunov, 0.01),
        ("centred", Godunov, 0.01),
        ("centred", Godunov, 0.005),
    ):
        along, across = speeds[name, dt] = cable_speeds(scheme(half), dt)
        title = "5. Cable of ten Tusscher-Panfilov cells, h 0.05 mm, half consistent: m/s"
        tabulate(title, gates=name, dt=dt, along=along, across=across, ratio=along / across)
        assert along / across == pytest.approx(2.75, rel=0.03)
    # an independent program with old gates: 0.605 m/s at this step, 0.615 for short steps
    assert speeds["old", 0.01][0] == pytest.approx(0.605, abs=0.006)
    limit = 2.0 * speeds["centred", 0.005][0] - speeds["centred", 0.01][0]
    assert limit == pytest.approx(0.615, abs=0.006)
    # gates at the middle of the step leave less of the step's error
    assert abs(speeds["centred", 0.01][0] / limit - 1.0) < 0.005
    assert abs(speeds["old", 0.01][0] / limit - 1.0) > 0.008
