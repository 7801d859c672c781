"""How sure a calibration is: Laplace, ensembles, NUTS, and what the ECG cannot tell."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array

from .objective import Objective, jacobian, residuals
from .optimise import Log, Minima, least_squares, quiet


class Posterior(NamedTuple):
    """Draws of what the ECG leaves possible.

    Attributes:
        latents: [draws, latents].
        values: [draws, latents] of the parameters, in the order of `labels`.
        labels: a name for each.
        method: "laplace", "ensemble" or "nuts".
        diagnostics: of the method, such as R-hat.
    """

    latents: Float[type_array, "draws latents"]
    values: Float[np.ndarray, "draws latents"]
    labels: list[str]
    method: str
    diagnostics: dict[str, Any]

    def interval(self, level: float = 0.9) -> Float[np.ndarray, "2 latents"]:
        """Equal-tailed interval of every parameter.

        Raises:
            ValueError: a level that is no share.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"Posterior: level is {level}; give a share such as 0.9.")
        tail = 50.0 * (1.0 - level)
        return np.percentile(self.values, [tail, 100.0 - tail], axis=0)


class Information(NamedTuple):
    """What the ECG tells about the latents, near one answer.

    Attributes:
        eigenvalues: [latents] of the information matrix, the greatest first. The prior's own is 1:
            along a direction with a smaller one the ECG tells less than was believed before.
        directions: [latents, latents] one a row.
        covariance: [latents, latents] of the posterior, by Gauss-Newton.
        log_evidence: logarithm of the probability of the ECG, but for a constant of the noise.
        labels: of the latents.
    """

    eigenvalues: Float[np.ndarray, " latents"]
    directions: Float[np.ndarray, "latents latents"]
    covariance: Float[np.ndarray, "latents latents"]
    log_evidence: float
    labels: list[str]

    def told(self) -> int:
        """Number of directions about which the ECG tells more than the priors."""
        return int((self.eigenvalues > 1.0).sum())

    def shrinkage(self) -> Float[np.ndarray, " latents"]:
        """Standard deviation of every latent over its prior's: 1 where the ECG tells nothing."""
        return np.sqrt(np.diag(self.covariance))


def information(objective: Objective, latent: Float[type_array, " latents"]) -> Information:
    """The information matrix of the data at a minimum, and what follows from it."""
    here = jnp.asarray(latent, float)
    slopes = np.asarray(jacobian(objective, here), np.float64)
    data = slopes[: len(slopes) - len(here)]  # the last rows are the priors'
    values, vectors = np.linalg.eigh(data.T @ data)
    values = np.maximum(values, 0.0)
    covariance = (vectors / (1.0 + values)) @ vectors.T
    cost = float(objective.cost(here))
    evidence = -cost - 0.5 * float(np.log1p(values).sum())
    return Information(
        values[::-1], vectors.T[::-1], covariance, evidence, objective.unknowns.labels
    )


def laplace(
    objective: Objective,
    latent: Float[type_array, " latents"],
    *,
    draws: int = 400,
    seed: int = 0,
    known: Information | None = None,
) -> Posterior:
    """A normal distribution of the latents about a minimum, with the covariance of Gauss-Newton.

    Args:
        objective: whose minimum it is.
        latent: the minimum.
        draws: number of them.
        seed: of the random numbers.
        known: its information, where it was worked out already.
    """
    found = information(objective, latent) if known is None else known
    lower = np.linalg.cholesky(found.covariance)
    drawn = np.random.default_rng(seed).standard_normal((draws, len(lower)))
    latents = np.asarray(latent)[None] + drawn @ lower.T
    return Posterior(
        latents,
        flat_values(objective, latents),
        found.labels,
        "laplace",
        {"told": found.told(), "log_evidence": found.log_evidence},
    )


def ensemble(
    objective: Objective,
    starts: Float[np.ndarray, "starts latents"],
    *,
    members: int = 20,
    seed: int = 0,
    most_steps: int = 25,
    tolerance: float = 1e-3,
    at_once: int = 1,
    log: Log = quiet,
) -> tuple[Posterior, Minima]:
    """Fits to perturbed ECGs and priors: each is a draw (randomise then optimise).

    Noise and model error are drawn for the ECG, a standard normal vector for the prior's mean, and
    the fit is repeated. Where residuals are linear the fits are draws of the posterior (Bardsley et
    al. 2014, https://doi.org/10.1137/140964023); several starts, in turn, reach several minima.

    Args:
        objective: what was minimised.
        starts: minima to start from.
        members: number of fits.
        seed: of the random numbers.
        most_steps: of each.
        tolerance: at which a fit has converged.
        at_once: fits computed together.
        log: takes a dictionary a step.

    Returns:
        The draws, those that did not become finite left out, and the minima themselves.
    """
    starts = np.atleast_2d(starts)
    size = jax.eval_shape(objective.residual, jnp.asarray(starts[0])).shape[0]
    shifts = np.random.default_rng(seed).standard_normal((members, size))
    begin = np.stack(
        [_towards(objective, starts[k % len(starts)], shift) for k, shift in enumerate(shifts)]
    )
    found = least_squares(
        objective,
        begin,
        shifts=shifts,
        most_steps=most_steps,
        tolerance=tolerance,
        at_once=at_once,
        log=log,
    )
    good = np.isfinite(found.costs) & np.isfinite(found.latents).all(axis=1)
    latents = found.latents[good]
    told = {"members": int(good.sum()), "lost": int((~good).sum())}
    values = flat_values(objective, latents)
    return Posterior(latents, values, objective.unknowns.labels, "ensemble", told), found


SHARES = np.array([1.0, 0.5, 0.25, 0.1, 0.0])


def _towards(objective: Objective, start: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Where a fit to shifted residuals begins: on the way to where it would end by Gauss-Newton.

    A descent alone hardly moves along what the ECG does not tell. As far of the way is gone as
    lowers the cost most.
    """
    slope = np.asarray(jacobian(objective, jnp.asarray(start, float)), np.float64)
    move = np.linalg.solve(slope.T @ slope, slope.T @ shift)
    tried = start + SHARES[:, None] * move
    apart = np.asarray(residuals(objective, jnp.asarray(tried))) - shift
    return tried[np.argmin(np.sum(apart**2, axis=1))]


def nuts(
    objective: Objective,
    starts: Float[np.ndarray, "chains latents"],
    *,
    warmup: int = 200,
    draws: int = 300,
    seed: int = 0,
    known: Information | None = None,
) -> Posterior:
    """Draws by the no-U-turn sampler (blackjax), one chain a start; for up to 20 parameters.

    Args:
        objective: its cost is the negative logarithm of the posterior.
        starts: [chains, latents], such as draws of `laplace`.
        warmup: steps that adapt the step size.
        draws: of each chain.
        seed: of the random numbers.
        known: information at the minimum; its covariance then is the metric of the sampler.

    Returns:
        Draws of all chains; diagnostics `r_hat` (greatest) and `ess` (least) over the parameters,
        and the share of divergent steps.

    Raises:
        ValueError: blackjax is missing, fewer than two chains, or more than 20 parameters.
    """
    try:
        blackjax = import_module("blackjax")
    except ImportError:
        raise ValueError("nuts: needs blackjax: pip install 'cardiotwin[uncertainty]'.") from None
    starts = np.atleast_2d(starts)
    if len(starts) < 2 or starts.shape[1] > 20:
        raise ValueError(
            f"nuts: got {len(starts)} chains of {starts.shape[1]} parameters; expected two "
            "chains or more of at most 20 parameters. Use laplace or ensemble for more."
        )
    count = starts.shape[1]
    lower = np.eye(count) if known is None else np.linalg.cholesky(known.covariance)
    scale = jnp.asarray(lower)

    # latents in units of their posterior spread: the sampler's metric is the identity
    def log_density(scaled: Array) -> Array:
        return -objective.cost(scale @ scaled)

    @jax.jit
    def chain(key, start):
        first, second = jax.random.split(key)
        adapt = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=True)
        (state, found), _ = adapt.run(first, start, warmup)
        kernel = blackjax.nuts(log_density, **found).step

        def step(state, key):
            state, told = kernel(key, state)
            return state, (state.position, told.is_divergent)

        _, (positions, divergent) = jax.lax.scan(step, state, jax.random.split(second, draws))
        return positions, divergent

    keys = jax.random.split(jax.random.key(seed), len(starts))
    begin = np.linalg.solve(lower, starts.T).T
    runs = [chain(key, jnp.asarray(start)) for key, start in zip(keys, begin, strict=True)]
    positions = np.stack([np.asarray(run[0]) for run in runs])
    latents = positions @ lower.T
    diagnostics = blackjax.diagnostics
    r_hat = np.asarray(diagnostics.potential_scale_reduction(latents))
    size = np.asarray(diagnostics.effective_sample_size(latents))
    flat = latents.reshape(-1, count)
    told = {
        "chains": len(starts),
        "r_hat": float(r_hat.max()),
        "ess": float(size.min()),
        "divergent": float(np.mean([np.asarray(run[1]).mean() for run in runs])),
    }
    return Posterior(flat, flat_values(objective, flat), objective.unknowns.labels, "nuts", told)


def flat_values(
    objective: Objective, latents: Float[type_array, "draws latents"]
) -> Float[np.ndarray, "draws latents"]:
    """Values of latents, in the order of the labels."""
    return np.asarray(jax.vmap(objective.unknowns.flat)(jnp.asarray(latents)))


class Spread(NamedTuple):
    """A field of every node over draws: mean and standard deviation."""

    mean: Float[np.ndarray, " nodes"]
    sd: Float[np.ndarray, " nodes"]


def field_spread(
    objective: Objective,
    latents: Float[type_array, "draws latents"],
    field: Callable[[Any], Array],
) -> Spread:
    """Mean and standard deviation of a field, such as activation times, over draws.

    Args:
        objective: whose model is meant.
        latents: draws.
        field: from the model to [nodes].
    """
    fields = fields_of(objective, latents, field)
    return Spread(fields.mean(axis=0), fields.std(axis=0))


def fields_of(
    objective: Objective,
    latents: Float[type_array, "draws latents"],
    field: Callable[[Any], Array],
) -> Float[np.ndarray, "draws nodes"]:
    """A field of every draw."""

    @eqx.filter_jit
    def of_one(objective, latent):
        return field(objective.unknowns.put(objective.model, latent))

    return np.stack([np.asarray(of_one(objective, jnp.asarray(z)), np.float64) for z in latents])


def null_field(
    objective: Objective,
    latent: Float[type_array, " latents"],
    known: Information,
    field: Callable[[Any], Array],
    *,
    most: float = 1.0,
) -> Float[np.ndarray, " nodes"]:
    """How a field may change along what the ECG cannot tell: its spread along those directions.

    Args:
        objective: whose minimum it is.
        latent: the minimum.
        known: its information.
        field: from the model to [nodes], such as activation times.
        most: directions with eigenvalues below this count: 1 is as little as the prior tells.

    Returns:
        [nodes] standard deviation; zero where there is no such direction.
    """
    blind = known.directions[known.eigenvalues < most]

    @eqx.filter_jit
    def slope(objective, latent, direction):
        def along(z):
            return field(objective.unknowns.put(objective.model, z))

        return jax.jvp(along, (latent,), (direction,))[1]

    here = jnp.asarray(latent, float)
    parts = [np.asarray(slope(objective, here, jnp.asarray(d)), np.float64) for d in blind]
    if not parts:
        return np.zeros(np.asarray(field(objective.unknowns.put(objective.model, here))).shape)
    return np.sqrt(np.sum(np.square(parts), axis=0))


class Ambiguity(NamedTuple):
    """Two answers with almost the same ECG and different maps.

    Attributes:
        first: its row among the draws.
        second: of the other.
        correlation: of their ECGs.
        rmse: between their activation times, ms.
    """

    first: int
    second: int
    correlation: float
    rmse: float


def most_ambiguous(
    ecgs: Float[np.ndarray, "draws times leads"],
    activations: Float[np.ndarray, "draws nodes"],
    *,
    alike: float = 0.99,
    apart: float = 10.0,
) -> Ambiguity | None:
    """The two of several answers whose ECGs are alike and whose maps differ most.

    Args:
        ecgs: of answers that fit.
        activations: their activation times, ms.
        alike: least correlation of two ECGs that count as the same.
        apart: least root mean square difference of two maps that count as different, ms.

    Returns:
        None where no such pair is among them.
    """
    flat = ecgs.reshape(len(ecgs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = flat @ flat.T
    square = np.mean(activations**2, axis=1)
    product = activations @ activations.T / activations.shape[1]
    distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2.0 * product, 0.0))
    distance = np.where(likeness >= alike, distance, 0.0)
    first, second = np.unravel_index(np.argmax(distance), distance.shape)
    if distance[first, second] < apart:
        return None
    return Ambiguity(
        int(first), int(second), float(likeness[first, second]), float(distance[first, second])
    )
