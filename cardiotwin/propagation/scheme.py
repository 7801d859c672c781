"""Operator splitting: how one time step joins diffusion and reaction."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.stepping import IonicStep, stepper
from cardiotwin.numerics.chebyshev import (
    ChebyshevSolver,
    chebyshev_solver,
    jacobi_bounds,
    spectrum,
)
from cardiotwin.numerics.concrete import known
from cardiotwin.numerics.parabolic import ConjugateSolver, conjugate_solver
from cardiotwin.numerics.rows import AbstractOperator, difference_operator, row_sums
from cardiotwin.numerics.subset import Subset
from cardiotwin.numerics.target import repeat
from cardiotwin.tissue.stimulus import Pulses, total

from .problem import AbstractProblem, System


class State(NamedTuple):
    """What one step hands to the next: voltage, cell state, and the voltage to observe.

    `seen` is None where the carried voltage itself is the one at the time of the step. `flux` is
    what the parabolic step has worked out of `v` already, within a frame: carried from one time
    step to the next, it lies in memory when the neighbours gather it.
    """

    v: Float[Array, " nodes"]
    cell: Any
    seen: Float[Array, " nodes"] | None = None
    flux: Any = None

    @property
    def voltage(self) -> Float[Array, " nodes"]:
        """The voltage at the time of the step, mV."""
        return self.v if self.seen is None else self.seen


class AbstractDiffusion(eqx.Module):
    """One parabolic step: v(t) -> v(t + dt) under diffusion alone."""

    corrects: ClassVar[bool] = False
    """Whether `setup` needs a system assembled with its correction."""

    @abstractmethod
    def setup(self, system: System, dt: float, dtype: Any) -> "AbstractStep":
        """Prepare the step.

        Bounds of the spectrum come from concrete values and have no derivative.
        """

    def calm(self) -> "AbstractDiffusion":
        """A cheaper step for tissue in which nothing depolarises."""
        return self

    def frozen(self, system: System, dt: float, headroom: float) -> "AbstractDiffusion":
        """Fix what `setup` would find out from the values of the system."""
        del system, dt, headroom
        return self


class AbstractStep(eqx.Module):
    """A parabolic step made ready: `step(v, step.flux(v))` advances the voltage."""

    def flux(self, v: Float[Array, " nodes"]) -> Any:
        """What can be worked out of `v` before the step; None for nothing."""
        del v
        return None

    @abstractmethod
    def __call__(self, v: Float[Array, " nodes"], flux: Any = None) -> Float[Array, " nodes"]:
        """Advance the voltage by one parabolic step."""

    def check(self, v: Float[Array, " nodes"]) -> dict[str, Array]:
        """Relative residual and iterations of the solve from `v`; 0 where nothing is solved."""
        return {"residual": jnp.zeros((), v.dtype), "iterations": jnp.zeros((), jnp.int32)}

    def stats(self) -> dict[str, float]:
        """What is fixed before the run, for its summary."""
        return {}

    def local(self, rows: Subset) -> "AbstractLocalStep | None":
        """This step for some rows only; None where one row depends on all others."""
        del rows
        return None

    def beside(self, shorter: "AbstractStep", stride: int) -> Self:
        """The same step, with arrays of one that is `stride` times shorter where they will do."""
        del shorter, stride
        return self


class AbstractLocalStep(eqx.Module):
    """A parabolic step for some of the rows (`numerics.subset`)."""

    @abstractmethod
    def __call__(
        self, v: Float[Array, " nodes"], join: Callable[[Float[Array, " dense"], float], Array]
    ) -> Float[Array, " dense"]:
        """Advance the inner rows by one parabolic step.

        Args:
            v: voltage of all rows.
            join: voltage of all rows from that of the inner ones, after a share of the step.
        """

    @abstractmethod
    def at(self, level: int) -> Self:
        """With the room of a smaller level of the subset."""


class ImplicitStep(AbstractStep):
    """v + A^-1 (dt L v), A = M - theta dt L."""

    rate: AbstractOperator  # dt L
    solver: ChebyshevSolver | ConjugateSolver

    def __call__(self, v: Float[Array, " nodes"], flux: Any = None) -> Float[Array, " nodes"]:
        """Advance the voltage by one parabolic step."""
        del flux
        return v + self.solver(self.rate(v))

    def check(self, v: Float[Array, " nodes"]) -> dict[str, Array]:
        """Relative residual and iterations of the parabolic solve that starts from `v`."""
        return self.solver.check(self.rate(v))

    def stats(self) -> dict[str, float]:
        """What is fixed before the run."""
        return self.solver.stats()


SOLVERS = {"chebyshev": chebyshev_solver, "conjugate_gradients": conjugate_solver}


class ImplicitDiffusion(AbstractDiffusion):
    """Theta method with a blend of consistent and lumped mass, solved by iteration.

    Args:
        theta: 1 backward Euler, 0.5 Crank-Nicolson.
        consistent_mass: share of the consistent mass matrix. Lumped mass (0) slows waves on a
            coarse mesh, consistent mass (1) speeds them; two thirds is within 1 % along the
            fibres up to 0.2 mm.
        tolerance: error of each solve relative to the change of voltage in the step. At 3e-3
            activation times on the N-version slab are within 0.02 ms (0.06 %) of those at 1e-6.
            With conjugate gradients it is the residual, scaled by the diagonal, relative to that of
            no change.
        bounds: of the spectrum of the Jacobi-scaled matrix; None finds them (see `frozen`).
        iteration: "chebyshev", a fixed number of steps without sums over the nodes, or
            "conjugate_gradients", as many steps as each solve needs, with two sums over all nodes
            in each, and the derivative of the converged solution.
    """

    theta: float = 0.5
    consistent_mass: float = 2.0 / 3.0
    tolerance: float = 3e-3
    bounds: tuple[float, float] | None = None
    iteration: Literal["chebyshev", "conjugate_gradients"] = "chebyshev"

    def __check_init__(self):
        if self.iteration not in SOLVERS:
            raise ValueError(
                f"ImplicitDiffusion: iteration is {self.iteration!r}; give 'chebyshev' or "
                "'conjugate_gradients'."
            )
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
        if self.bounds is not None and not 0 < self.bounds[0] < self.bounds[1]:
            raise ValueError(
                f"ImplicitDiffusion: bounds is {self.bounds}; give the lowest and the highest "
                "eigenvalue, both positive, or leave it out."
            )

    def setup(self, system: System, dt: float, dtype: Any) -> ImplicitStep:
        """Assemble the matrix and bound its spectrum."""
        rate = dt * system.diffusion_edges
        return ImplicitStep(
            rate=difference_operator(system.pattern, jnp.asarray(rate, dtype)),
            solver=SOLVERS[self.iteration](
                system.pattern,
                system.mass,
                self._off_diagonal(system, rate),
                tolerance=self.tolerance,
                dtype=dtype,
                bounds=self.bounds,
            ),
        )

    def frozen(self, system: System, dt: float, headroom: float) -> "ImplicitDiffusion":
        """Fix the bounds of the spectrum for every dt and diffusivity up to those given."""
        # every Rayleigh quotient is monotone in the diffusivity: its extremes are at the ends
        ends = [
            jacobi_bounds(
                system.pattern,
                system.mass,
                self._off_diagonal(system, share * dt * system.diffusion_edges),
            )
            for share in (0.0, headroom)
        ]
        low, high = zip(*ends, strict=True)
        return replace(self, bounds=(min(low), max(high)))

    def _off_diagonal(self, system: System, rate: Any) -> Any:
        # row sums of the consistent mass are the lumped mass, so the blend only scales its edges
        return self.consistent_mass * system.mass_edges - self.theta * rate


class ExplicitStep(AbstractStep):
    """Runge-Kutta-Legendre stages; a single one is v + dt M^-1 L v."""

    rate: AbstractOperator  # dt L
    inverse_mass: Float[Array, " nodes"]
    momentum: Float[Array, " stages"]  # (j - 1) / j
    gain: Float[Array, " stages"]  # (2 j - 1) / j * 2 / (s^2 + s)

    def beside(self, shorter: AbstractStep, stride: int) -> "ExplicitStep":
        """With the operator of the shorter step, of which its own is a multiple."""
        ratio = stride * getattr(shorter, "substeps", 1)
        rate = getattr(shorter, "rate", self.rate)
        if rate is self.rate:
            return self
        return replace(self, rate=rate, inverse_mass=ratio * self.inverse_mass)

    @property
    def stages(self) -> int:
        """Number of stages, one multiplication each."""
        return self.gain.shape[0]

    def __call__(self, v: Float[Array, " nodes"], flux: Any = None) -> Float[Array, " nodes"]:
        """Advance the voltage by one parabolic step."""
        del flux

        def stage(j, carry):
            y, before = carry
            # the reference's mu y + nu before, written with a difference: rest stays exactly so
            change = self.gain[j] * self.inverse_mass * self.rate(y)
            return y + self.momentum[j] * (y - before) + change, y

        if self.stages == 1:
            return v + self.inverse_mass * self.rate(v)
        return repeat(self.stages, stage, (v, v))[0]

    def local(self, rows: Subset) -> "LocalExplicitStep | None":
        """This step for some rows."""
        if not self.rate.rowwise:
            return None
        return LocalExplicitStep(
            rows=rows,
            rate=rows.weights(self.rate.weights),
            inverse_mass=rows.take(self.inverse_mass),
            momentum=self.momentum,
            gain=self.gain,
        )


class LocalExplicitStep(AbstractLocalStep):
    """`ExplicitStep` for some of the rows."""

    rows: Subset
    rate: tuple[Float[Array, "width room"], ...]
    inverse_mass: Float[Array, " dense"]
    momentum: Float[Array, " stages"]
    gain: Float[Array, " stages"]

    def __call__(self, v, join):
        """Advance the inner rows by one parabolic step."""
        s = self.gain.shape[0]
        before = y = self.rows.take(v)
        for j in range(s):
            change = self.inverse_mass * self.rows.differences(v, y, self.rate)
            y, before = y + self.momentum[j] * (y - before) + self.gain[j] * change, y
            if j < s - 1:
                # stage j + 1 of s stands at this share of the step
                v = join(y, (j + 1) * (j + 2) / (s * (s + 1)))
        return y

    def at(self, level):
        """With the room of a smaller level."""
        rows = self.rows
        return LocalExplicitStep(
            rows.at(level),
            self.rate,
            rows.cut(self.inverse_mass, level),
            self.momentum,
            self.gain,
        )


class ExplicitDiffusion(AbstractDiffusion):
    """Explicit diffusion with lumped mass: forward Euler, stabilised by further stages.

    s stages of the Runge-Kutta-Legendre method of first order are stable up to (s^2 + s)/2 times
    the largest step of forward Euler (`largest_explicit_step`), at the cost of s of its steps.
    Source: Meyer, Balsara, Aslam 2014, https://doi.org/10.1016/j.jcp.2013.08.021, section 2.

    Args:
        stages: of one time step, 1 for forward Euler; None takes as few as stability allows.
    """

    stages: int | None = None

    def __check_init__(self):
        if self.stages is not None and self.stages < 1:
            raise ValueError(
                f"ExplicitDiffusion: stages is {self.stages}; give 1 or more, or leave it out for "
                "as few as stability allows."
            )

    def setup(self, system: System, dt: float, dtype: Any) -> ExplicitStep:
        """Choose the stages, or check that those asked for are stable on this mesh.

        Traced conductivities or node positions cannot be checked; then the stages are taken as
        given (see `frozen`).
        """
        traced = known(system.diffusion_edges) is None or known(system.mass) is None
        s = self.stages if traced and self.stages else self._stages(system, dt)
        j = np.arange(1, s + 1)
        return ExplicitStep(
            rate=difference_operator(
                system.pattern, jnp.asarray(dt * system.diffusion_edges, dtype)
            ),
            inverse_mass=jnp.asarray(1.0 / system.mass, dtype),
            momentum=jnp.asarray((j - 1) / j, dtype),
            gain=jnp.asarray((2 * j - 1) / j * 2 / (s * s + s), dtype),
        )

    def frozen(self, system: System, dt: float, headroom: float) -> "ExplicitDiffusion":
        """Fix the stages, enough for every dt and diffusivity up to those given."""
        return replace(self, stages=self._stages(system, headroom * dt))

    def _stages(self, system: System, dt: float) -> int:
        limit = largest_explicit_step(system)
        # the smallest s with (s^2 + s) / 2 >= dt / limit
        needed = max(1, int(np.ceil(np.sqrt(2.0 * dt / limit + 0.25) - 0.5)))
        s = needed if self.stages is None else self.stages
        if s < needed:
            raise ValueError(
                f"Explicit diffusion with {s} stage(s) is unstable at dt = {dt} ms: the largest dt "
                f"on this mesh is {(s * s + s) / 2 * limit:.4g} ms. Shorten dt, give "
                f"stages={needed}, or use the implicit step."
            )
        return s


def largest_explicit_step(system: System) -> float:
    """Largest stable step of forward Euler with lumped mass, in ms.

    2 over the largest eigenvalue of M^-1 K, found by Lanczos iteration and widened by a margin.

    Raises:
        ValueError: conductivities or node positions are traced.
    """
    weights, mass = known(system.diffusion_edges), known(system.mass)
    if weights is None or mass is None:
        raise ValueError(
            "Conductivities or node positions are traced by jax.jit or jax.vmap, so the stable "
            "step cannot be found here. Fix the stages beforehand, at values like those to come: "
            "scheme = Godunov(ExplicitDiffusion()).frozen(problem, dt)."
        )
    diagonal = row_sums(system.pattern, weights)
    if not diagonal.any():
        return float("inf")
    # scaled by the mass from both sides: symmetric, with the eigenvalues of M^-1 K
    first, second = system.pattern.edges.T
    root = np.sqrt(mass)
    _, high = spectrum(
        system.pattern,
        -weights / (root[first] * root[second]),
        diagonal / mass,
        lowest=False,
    )
    return 2.0 / high


class Prepared(eqx.Module):
    """What a scheme needs in the loop, in the precision of the solve."""

    diffuse: Any
    cell: AbstractIonicModel
    pulses: tuple[Pulses, ...]
    dt: Float[Array, ""]
    ionic_step: IonicStep = eqx.field(static=True, default="rush_larsen")

    def beside(self, shorter: "Prepared", stride: int) -> "Prepared":
        """The same, holding what it has in common with a step that is `stride` times shorter."""
        diffuse = self.diffuse.beside(shorter.diffuse, stride)
        return Prepared(diffuse, shorter.cell, shorter.pulses, self.dt)

    def react(self, v, cell_state, t, fraction):
        """Ionic step of `fraction` dt from time `t`, with the mean stimulus of that time."""
        dt = self.dt * fraction
        step = stepper(self.ionic_step)
        return step(self.cell, v, cell_state, dt, total(self.pulses, t, dt))


class AbstractScheme(eqx.Module):
    """Advances the state from frame to frame: `start`, then steps, the last by `finish`."""

    diffusion: eqx.AbstractVar[AbstractDiffusion]
    ionic_step: eqx.AbstractVar[IonicStep]
    peels_last: ClassVar[bool] = True
    """Whether the last step of a frame differs from the others (`finish` is not `step`)."""

    def __check_init__(self):
        stepper(self.ionic_step)

    def setup(self, system: System, dt: float, dtype: Any) -> Prepared:
        """Assemble and factor what the loop reads; everything that needs the host."""
        return Prepared(
            diffuse=self.diffusion.setup(system, dt, dtype),
            cell=system.cell.under_way().astype(dtype),
            pulses=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), system.pulses),
            dt=jnp.asarray(dt, dtype),
            ionic_step=self.ionic_step,
        )

    def frozen(self, problem: AbstractProblem, dt: float, *, headroom: float = 1.2) -> Self:
        """This scheme with what it takes from the spectrum fixed, at a problem like those to come.

        The parabolic step chooses its iterations or stages from the spectrum of its matrix, on the
        host. Where conductivities or node positions are traced (under `jax.jit` or `jax.vmap`),
        and where runs are compared by differences, that choice has to be made beforehand.

        Args:
            problem: concrete, with typical conductivities and the mesh.
            dt: longest time step of the runs (`quiet_dt` where that is given), ms.
            headroom: diffusivities up to this factor above those of `problem` are covered.

        Raises:
            ValueError: headroom below 1, or an unstable number of stages.
        """
        if not (np.isfinite(headroom) and headroom >= 1):
            raise ValueError(f"headroom is {headroom}; give a factor of 1 or more.")
        system = problem.discretise(corrected=self.diffusion.corrects)
        diffusion = self.diffusion.frozen(system, dt, headroom)
        return replace(self, diffusion=diffusion)  # pyright: ignore[reportCallIssue]

    def calm(self) -> Self:
        """This scheme for tissue in which nothing depolarises."""
        return replace(self, diffusion=self.diffusion.calm())  # pyright: ignore[reportCallIssue]

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
    """Diffusion, then reaction: first order in dt (Godunov splitting).

    Args:
        diffusion: the parabolic step.
        ionic_step: "rush_larsen", or "grl1" or "grl2" for generalised Rush-Larsen of that order.
    """

    diffusion: AbstractDiffusion = ImplicitDiffusion()
    ionic_step: IonicStep = "rush_larsen"
    peels_last: ClassVar[bool] = False

    def start(self, prepared, state, t):
        """Enter a frame."""
        return state._replace(flux=prepared.diffuse.flux(state.v))

    def step(self, prepared, state, t):
        """Advance by dt."""
        # diffusion first: its gathers then read the voltage as it lies in memory
        v = prepared.diffuse(state.v, state.flux)
        v, cell = prepared.react(v, state.cell, t, 1.0)
        return State(v, cell, None, prepared.diffuse.flux(v))

    def finish(self, prepared, state, t):
        """Advance by dt and leave the frame."""
        return self.step(prepared, state, t)._replace(flux=None)


class Strang(AbstractScheme):
    """Half reaction, diffusion, half reaction; adjacent halves are one step inside a frame.

    Of second order in dt where all three are: with "grl2" and Crank-Nicolson (theta 0.5).

    Args:
        diffusion: the parabolic step.
        ionic_step: as of `Godunov`.
    """

    diffusion: AbstractDiffusion = ImplicitDiffusion()
    ionic_step: IonicStep = "rush_larsen"

    def start(self, prepared, state, t):
        """Enter a frame."""
        v, cell = prepared.react(state.v, state.cell, t, 0.5)
        return State(v, cell, state.v, prepared.diffuse.flux(v))

    def step(self, prepared, state, t):
        """Advance by dt."""
        before = prepared.diffuse(state.v, state.flux)
        v, cell = prepared.react(before, state.cell, t + prepared.dt / 2, 1.0)
        # the time of the step lies at the middle of the merged reaction
        return State(v, cell, 0.5 * (before + v), prepared.diffuse.flux(v))

    def finish(self, prepared, state, t):
        """Advance by dt and leave the frame."""
        v = prepared.diffuse(state.v, state.flux)
        return State(*prepared.react(v, state.cell, t + prepared.dt / 2, 0.5))
