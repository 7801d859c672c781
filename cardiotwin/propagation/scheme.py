"""Operator splitting: how one time step joins diffusion and reaction."""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.stepping import rush_larsen
from cardiotwin.numerics.chebyshev import ChebyshevSolver, chebyshev_solver
from cardiotwin.numerics.rows import DifferenceOperator, difference_operator
from cardiotwin.tissue.stimulus import Pulses, total

from .problem import System


class State(NamedTuple):
    """What one step hands to the next: voltage, cell state, and the voltage to observe.

    `seen` is None where the carried voltage itself is the one at the time of the step.
    """

    v: Float[Array, " nodes"]
    cell: Any
    seen: Float[Array, " nodes"] | None = None

    @property
    def voltage(self) -> Float[Array, " nodes"]:
        """The voltage at the time of the step, mV."""
        return self.v if self.seen is None else self.seen


class AbstractDiffusion(eqx.Module):
    """One parabolic step: v(t) -> v(t + dt) under diffusion alone."""

    @abstractmethod
    def setup(self, system: System, dt: float, dtype: Any) -> Any:
        """Prepare the step, a callable PyTree v -> v; concrete arrays only."""


class ImplicitStep(eqx.Module):
    """v + A^-1 (dt L v), A = M - theta dt L."""

    rate: DifferenceOperator  # dt L
    solver: ChebyshevSolver

    def __call__(self, v: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Advance the voltage by one parabolic step."""
        return v + self.solver(self.rate(v))

    def residual(self, v: Float[Array, " nodes"]) -> Float[Array, ""]:
        """Relative residual of the parabolic solve that starts from `v`."""
        b = self.rate(v)
        scale = jnp.sqrt(jnp.sum(b * b))
        r = b - self.solver.matrix(self.solver(b))
        return jnp.sqrt(jnp.sum(r * r)) / jnp.maximum(scale, jnp.finfo(v.dtype).tiny)


class ImplicitDiffusion(AbstractDiffusion):
    """Theta method with a blend of consistent and lumped mass, solved by Chebyshev iteration.

    Args:
        theta: 1 backward Euler, 0.5 Crank-Nicolson.
        consistent_mass: share of the consistent mass matrix. Lumped mass (0) slows waves on a
            coarse mesh, consistent mass (1) speeds them; two thirds is within 1 % along the
            fibres up to 0.2 mm.
        tolerance: error of each solve relative to the change of voltage in the step.
    """

    theta: float = 0.5
    consistent_mass: float = 2.0 / 3.0
    tolerance: float = 1e-3

    def __check_init__(self):
        if not 0.5 <= self.theta <= 1:
            raise ValueError(
                f"ImplicitDiffusion: theta is {self.theta}; give 0.5 (Crank-Nicolson) to 1 "
                "(backward Euler), where the step is stable for every dt."
            )
        if not 0 <= self.consistent_mass <= 1:
            raise ValueError(
                f"ImplicitDiffusion: consistent_mass is {self.consistent_mass}; give a share "
                "between 0 (lumped) and 1 (consistent)."
            )

    def setup(self, system: System, dt: float, dtype: Any) -> ImplicitStep:
        """Assemble the matrix and bound its spectrum."""
        rate = dt * np.asarray(system.diffusion_edges)
        # row sums of the consistent mass are the lumped mass, so the blend only scales its edges
        off = self.consistent_mass * system.mass_edges - self.theta * rate
        return ImplicitStep(
            rate=difference_operator(system.pattern, jnp.asarray(rate, dtype)),
            solver=chebyshev_solver(
                system.pattern, system.mass, off, tolerance=self.tolerance, dtype=dtype
            ),
        )


class ExplicitStep(eqx.Module):
    """v + (dt/n) M^-1 L v, n times over."""

    rate: DifferenceOperator
    inverse_mass: Float[Array, " nodes"]
    substeps: int = eqx.field(static=True)

    def __call__(self, v: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Advance the voltage by one parabolic step."""

        def substep(_, v):
            return v + self.inverse_mass * self.rate(v)

        return jax.lax.fori_loop(0, self.substeps, substep, v)

    def residual(self, v: Float[Array, " nodes"]) -> Float[Array, ""]:
        """Zero: an explicit step solves nothing."""
        return jnp.zeros((), v.dtype)


class ExplicitDiffusion(AbstractDiffusion):
    """Forward Euler with lumped mass.

    Args:
        substeps: sub-steps a time step; None takes as few as stability allows.
    """

    substeps: int | None = 1

    def setup(self, system: System, dt: float, dtype: Any) -> ExplicitStep:
        """Check that the sub-steps are stable on this mesh."""
        limit = largest_explicit_step(system)
        needed = int(np.ceil(dt / limit))
        substeps = needed if self.substeps is None else self.substeps
        if substeps < needed:
            raise ValueError(
                f"Explicit diffusion with {substeps} sub-step(s) is unstable at dt = {dt} ms: the "
                f"largest dt on this mesh is {substeps * limit:.4g} ms. Shorten dt, give "
                f"substeps={needed}, or use the implicit step."
            )
        rate = dt / substeps * np.asarray(system.diffusion_edges)
        return ExplicitStep(
            rate=difference_operator(system.pattern, jnp.asarray(rate, dtype)),
            inverse_mass=jnp.asarray(1.0 / system.mass, dtype),
            substeps=substeps,
        )


def largest_explicit_step(system: System) -> float:
    """Largest stable step of explicit diffusion with lumped mass, in ms.

    2 over the largest eigenvalue of M^-1 K, bounded from above by Gershgorin's circles.
    """
    absolute = np.abs(np.asarray(system.diffusion_edges))
    first, second = system.pattern.edges.T
    diagonal = np.bincount(first, np.asarray(system.diffusion_edges), system.nodes) + np.bincount(
        second, np.asarray(system.diffusion_edges), system.nodes
    )
    radius = np.bincount(first, absolute, system.nodes) + np.bincount(
        second, absolute, system.nodes
    )
    return float(2.0 / np.max((diagonal + radius) / system.mass))


class Prepared(eqx.Module):
    """What a scheme needs in the loop, in the precision of the solve."""

    diffuse: Any
    cell: AbstractIonicModel
    pulses: tuple[Pulses, ...]
    dt: Float[Array, ""]

    def react(self, v, cell_state, t, fraction):
        """Ionic step of `fraction` dt from time `t`, with the stimulus at its middle."""
        dt = self.dt * fraction
        return rush_larsen(self.cell, v, cell_state, dt, total(self.pulses, t + dt / 2))


class AbstractScheme(eqx.Module):
    """Advances the state from frame to frame: `start`, then steps, the last by `finish`."""

    diffusion: eqx.AbstractVar[AbstractDiffusion]

    def setup(self, system: System, dt: float, dtype: Any) -> Prepared:
        """Assemble and factor what the loop reads; everything that needs the host."""
        return Prepared(
            diffuse=self.diffusion.setup(system, dt, dtype),
            cell=system.cell.astype(dtype),
            pulses=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), system.pulses),
            dt=jnp.asarray(dt, dtype),
        )

    @abstractmethod
    def start(self, prepared: Prepared, state: State, t: Array) -> State:
        """Enter a frame."""

    @abstractmethod
    def step(self, prepared: Prepared, state: State, t: Array) -> State:
        """Advance by dt from time `t` within a frame."""

    @abstractmethod
    def finish(self, prepared: Prepared, state: State, t: Array) -> State:
        """Advance by dt from time `t` and leave the frame."""


class Godunov(AbstractScheme):
    """Diffusion, then reaction: first order in dt (Godunov splitting)."""

    diffusion: AbstractDiffusion = ImplicitDiffusion()

    def start(self, prepared, state, t):
        """Enter a frame."""
        return state

    def step(self, prepared, state, t):
        """Advance by dt."""
        # diffusion first: its gathers then read the voltage as it lies in memory
        v = prepared.diffuse(state.v)
        return State(*prepared.react(v, state.cell, t, 1.0))

    def finish(self, prepared, state, t):
        """Advance by dt and leave the frame."""
        return self.step(prepared, state, t)


class Strang(AbstractScheme):
    """Half reaction, diffusion, half reaction; adjacent halves are one step inside a frame."""

    diffusion: AbstractDiffusion = ImplicitDiffusion()

    def start(self, prepared, state, t):
        """Enter a frame."""
        v, cell = prepared.react(state.v, state.cell, t, 0.5)
        return State(v, cell, state.v)

    def step(self, prepared, state, t):
        """Advance by dt."""
        before = prepared.diffuse(state.v)
        v, cell = prepared.react(before, state.cell, t + prepared.dt / 2, 1.0)
        # the time of the step lies at the middle of the merged reaction
        return State(v, cell, 0.5 * (before + v))

    def finish(self, prepared, state, t):
        """Advance by dt and leave the frame."""
        v = prepared.diffuse(state.v)
        return State(*prepared.react(v, state.cell, t + prepared.dt / 2, 0.5))
