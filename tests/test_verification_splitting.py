"""Order in time of the splittings, by a manufactured solution whose sub-problems do not commute.

The equations of the demonstration of fenicsx-beat (https://github.com/finsberg/fenicsx-beat):
reaction v' = -v, s' = v under a stimulus that varies in time, solved by v = phi e^t sin t and
s = phi e^t (sin t - cos t) / 2. Here phi is an eigenvector of the scheme's own discrete diffusion,
so that no error in space is left, and two reactions are compared: one integrated exactly, which
shows the splitting alone, and the ones that the solver offers: forward Euler in the voltage by
default, or generalised Rush-Larsen.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tissues import NEVER, passive, uniform_tissue
from verification import SCHEMES, ordinary, slope, unit_mesh

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.stepping import stepper
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import Prepared
from cardiotwin.propagation.solve import solve

pytestmark = pytest.mark.convergence

MESH = unit_mesh(6, 2, "kuhn")
DIFFUSIVITY = 0.02  # about 1.5 / ms for the mode
STEPS = np.array([0.025, 0.0125])
TITLE = "2. Order in time of the splittings"


class ForcedState(NamedTuple):
    """The integral of the voltage."""

    s: Any


class Forced(AbstractIonicModel):
    """v' = -v and s' = v, with the mode and the rate of the manufactured solution."""

    State: ClassVar[type[Any]] = ForcedState
    gates: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float] = 0.0
    repolarisation_threshold: ClassVar[float] = 0.0

    phi: Any = param(1.0, "mV", meaning="mode of diffusion")
    rate: Any = param(1.0, "1/ms", meaning="decay of the mode by diffusion")

    def initial(self):
        return 0.0, ForcedState(-0.5 * self.phi)

    def __call__(self, v, state):
        return v, ForcedState(v)

    def stimulus(self, t):
        """phi e^t ((2 + rate) sin t + cos t)."""
        return self.phi * jnp.exp(t) * ((2.0 + self.rate) * jnp.sin(t) + jnp.cos(t))


class ExactReaction(Prepared):
    """The reaction integrated exactly: C e^-t + phi e^t (a sin t + b cos t)."""

    def react(self, v, cell_state, t, fraction):
        end = t + self.dt * fraction
        phi, rate = self.cell.phi, self.cell.rate
        a, b = (5.0 + 2.0 * rate) / 5.0, -rate / 5.0

        def forced(r):
            return phi * jnp.exp(r) * (a * jnp.sin(r) + b * jnp.cos(r))

        def integral(r):
            return phi * jnp.exp(r) * ((a + b) * jnp.sin(r) + (b - a) * jnp.cos(r)) / 2.0

        free = v - forced(t)
        decay = jnp.exp(t - end)
        s = cell_state.s + free * (1.0 - decay) + integral(end) - integral(t)
        return free * decay + forced(end), ForcedState(s)


class OwnReaction(Prepared):
    """The ionic step of the solver, with the stimulus at the middle of the step."""

    def react(self, v, cell_state, t, fraction):
        dt = self.dt * fraction
        stimulus = self.cell.stimulus(t + dt / 2)
        return stepper(self.ionic_step)(self.cell, v, cell_state, dt, stimulus)


def with_reaction(scheme, reaction):
    """The same scheme, with another reaction."""

    class Replaced(type(scheme)):
        def setup(self, system, dt, dtype):
            prepared = super().setup(system, dt, dtype)
            return reaction(**fields(prepared))

    return Replaced(**fields(scheme))


def fields(module):
    return {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}


def mode(scheme):
    """Mode of the discrete diffusion next to cos 2 pi x cos 2 pi y, in row order, and its rate."""
    still = passive(MESH, np.zeros(MESH.nodes), (DIFFUSIVITY,) * 3)
    system = still.discretise(corrected=True)
    brief = 1e-6  # the step is 1 - rate brief for this mode, but for (rate brief)^2
    step = scheme.diffusion.setup(system, brief, jnp.float64)
    values, vectors = np.linalg.eig(np.asarray(jax.vmap(step)(jnp.eye(MESH.nodes))).T)
    wave = np.cos(2 * np.pi * system.points[:, :2]).prod(axis=1)
    likeness = np.abs(wave @ vectors) / np.linalg.norm(vectors, axis=0)
    k = int(np.argmax(likeness))
    vector = np.real(vectors[:, k])
    return system, vector / np.abs(vector).max(), float((1.0 - np.real(values[k])) / brief)


def errors(scheme, reaction):
    """Largest error of v and s at t = 1, for every time step."""
    system, phi, rate = mode(scheme)
    cell = Forced(phi=np.asarray(system.to_mesh(phi)), rate=rate)
    tissue = uniform_tissue(MESH, (DIFFUSIVITY,) * 3)
    exact_v, exact_s = phi * np.e * np.sin(1.0), phi * np.e * (np.sin(1.0) - np.cos(1.0)) / 2.0
    found = []
    for dt in STEPS:
        solution = solve(
            Monodomain(MESH, tissue, cell, NEVER),
            1.0,
            dt=dt,
            scheme=with_reaction(scheme, reaction),
            every=1.0,
            precision="float64",
        )
        v, s = (np.asarray(leaf) for leaf in solution.final.leaves[:2])
        found.append(max(np.abs(v - exact_v).max(), np.abs(s - exact_s).max()))
    return np.array(found)


def check(tabulate, name, reaction, order, found):
    order_found = slope(STEPS, found)
    rows = {f"error, dt {dt:g}": error for dt, error in zip(STEPS, found, strict=True)}
    tabulate(TITLE, scheme=name, reaction=reaction, **rows, order=order_found, theory=order)
    assert order_found == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", ordinary(SCHEMES))
def test_order_with_an_exact_reaction(name, tabulate):
    case = SCHEMES[name]
    check(tabulate, name, "exact", case.order, errors(case.scheme, ExactReaction))


@pytest.mark.parametrize("name", ["Godunov", "Strang"])
def test_order_with_the_reaction_of_the_solver(name, tabulate):
    # forward Euler in the voltage: of first order whatever the splitting
    check(tabulate, name, "the solver's", 1, errors(SCHEMES[name].scheme, OwnReaction))


@pytest.mark.parametrize(("name", "kind", "order"), [("Godunov", "grl2", 1), ("Strang", "grl2", 2)])
def test_order_with_generalised_rush_larsen(name, kind, order, tabulate):
    scheme = dataclasses.replace(SCHEMES[name].scheme, ionic_step=kind)
    check(tabulate, name, kind, order, errors(scheme, OwnReaction))
