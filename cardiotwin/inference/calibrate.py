"""Fit a model to an ECG: a screen of the priors, then many descents with the noise turned down."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .free import Free, Unknowns
from .losses import AbstractLoss, Waveform
from .objective import Objective, call, ecgs
from .optimise import Log, Minima, least_squares, screen, sorted_minima, spread_out
from .uncertainty import Information, information

STATE = "calibration.npz"
EVALUATIONS = "evaluations.jsonl"


class Method(eqx.Module):
    """How a calibration searches.

    Attributes:
        screened: draws from the priors that are weighed first.
        starts: the best of them, apart from each other, that are followed down.
        soften: discrepancies (shares of the amplitude) with which descents begin, the largest
            first, and the ms over which they go together: large ones widen the basins.
        steps: at most so many of each descent.
        tolerance: at which a descent has converged.
        at_once: cases computed together; 1 is fastest on a CPU.
        seed: of all random numbers.
    """

    screened: int = 150
    starts: int = 4
    soften: tuple[tuple[float, float], ...] = ((0.6, 15.0), (0.2, 10.0))
    steps: int = 30
    tolerance: float = 1e-3
    at_once: int = 1
    seed: int = 0

    def __check_init__(self):
        numbers = self.starts, self.steps, self.at_once
        if min(numbers) < 1 or self.screened < 0 or not self.tolerance > 0:
            raise ValueError(
                f"Method: starts {self.starts}, steps {self.steps} and at_once {self.at_once} must "
                f"be at least 1, screened {self.screened} not negative, tolerance positive."
            )


class Calibration(NamedTuple):
    """A fitted model.

    Attributes:
        objective: what was minimised, with the model as it was.
        minima: the starts' ends, the lowest first.
        information: at the lowest.
        t_ms: [times] of the ECG.
        observed: [times, leads] mV.
        names: of the leads.
        seconds: that it took, earlier runs that it went on from included.
        evaluations: of the model: with derivatives, and without.
        warnings: what should be known before the answer is used.
    """

    objective: Objective
    minima: Minima
    information: Information
    t_ms: Float[np.ndarray, " times"]
    observed: Float[np.ndarray, "times leads"]
    names: tuple[str, ...]
    seconds: float
    evaluations: tuple[int, int]
    warnings: tuple[str, ...]

    @property
    def latent(self) -> Float[np.ndarray, " latents"]:
        """Latents of the answer."""
        return self.minima.latents[0]

    @property
    def model(self) -> Any:
        """The fitted model."""
        return self.objective.unknowns.put(self.objective.model, jnp.asarray(self.latent))

    def values(self) -> dict[str, np.ndarray]:
        """Values of the free parameters by name."""
        found = self.objective.unknowns.values(jnp.asarray(self.latent))
        return {name: np.asarray(value) for name, value in found.items()}

    def ecg(self) -> Float[np.ndarray, "times leads"]:
        """The fitted ECG, with the gain that fits it best, mV."""
        found = np.asarray(ecgs(self.objective, jnp.asarray(self.latent)[None], 1)[0], np.float64)
        return self.scaled(found)

    def scaled(self, ecg: Float[np.ndarray, "times leads"]) -> Float[np.ndarray, "times leads"]:
        """A simulated ECG with the gain of the loss, where it has one."""
        loss = waveform_of(self.objective.loss)
        return ecg if loss is None else ecg * np.asarray(loss.gains(jnp.asarray(ecg)))

    def correlation(self) -> float:
        """Of recorded and fitted ECG, over all leads and times together."""
        return correlation(self.ecg(), self.observed)

    def lead_correlations(self) -> dict[str, float]:
        """Of recorded and fitted ECG, lead by lead."""
        fitted = self.ecg()
        return {
            name: correlation(fitted[:, [k]], self.observed[:, [k]])
            for k, name in enumerate(self.names)
        }


def calibrate(
    model: Any,
    t_ms: Float[np.ndarray, " times"],
    observed: Float[np.ndarray, "times leads"],
    names: Sequence[str],
    free: Sequence[Free],
    *,
    loss: AbstractLoss | None = None,
    predict: Callable[[Any], Array] = call,
    method: Method | None = None,
    starts: Float[np.ndarray, "starts latents"] | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    log: Log | None = None,
) -> Calibration:
    """Fit the free parameters of a model to an ECG.

    Args:
        model: any PyTree that gives an ECG when called, such as an `EikonalBeat`.
        t_ms: [times] ms.
        observed: [times, leads] mV.
        names: of the leads.
        free: what may move.
        loss: of the ECG; `Waveform` when left out.
        predict: from the model to its ECG [times, leads] at `t_ms`; calls it when left out.
        method: how to search.
        starts: latents to start from besides those of the screen and of the model as it stands.
        folder: where every evaluation is logged, and what is needed to go on after a stop is kept;
            None keeps nothing.
        resume: go on from what the folder holds. It must be of the same problem.
        log: takes a dictionary an evaluation or batch of them.

    Raises:
        ValueError: what is observed does not fit the model, nothing may move, or no draw from the
            priors gives a finite ECG.
    """
    began = time.perf_counter()
    method = Method() if method is None else method
    names = tuple(names)
    t_ms, observed = np.asarray(t_ms, float), np.asarray(observed, float)
    loss = Waveform(t_ms, observed, names) if loss is None else loss
    objective = Objective(model, Unknowns(model, free), loss, predict)
    _check_shape(objective, observed)
    whole = objective.model, objective.unknowns, objective.loss, observed
    key = fingerprint(whole, repr((method, objective.unknowns.labels)))
    keeper = _Keeper(folder, key, resume, log)
    own = objective.unknowns.start(model)
    begins = _begins(objective, method, own, starts, keeper)
    minima = _descents(objective, method, begins, keeper)
    found = information(objective, minima.latents[0])
    seconds = keeper.seconds + time.perf_counter() - began
    result = Calibration(
        objective, minima, found, t_ms, observed, names, seconds, keeper.evaluations, ()
    )
    return result._replace(warnings=tuple(_warnings(result)))


def _check_shape(objective: Objective, observed: np.ndarray) -> None:
    shape = jax.eval_shape(lambda: objective.predict(objective.model)).shape
    if shape != observed.shape:
        raise ValueError(
            f"calibrate: the model gives an ECG of shape {shape} and {observed.shape} was "
            "observed; sample the model at the times of the recording, and give the same leads."
        )


def _begins(objective, method: Method, own, starts, keeper: "_Keeper") -> np.ndarray:
    """Latents from which descents begin."""
    kept = keeper.get("begins")
    if kept is not None:
        return kept
    if method.screened == 0 and starts is not None:
        keeper.put(begins=np.atleast_2d(starts))
        return np.atleast_2d(starts)
    softest = _softened(objective, *method.soften[0]) if method.soften else objective
    around = own[None] if starts is None else np.concatenate([own[None], np.atleast_2d(starts)])
    latents, _ = screen(
        softest,
        method.screened,
        seed=method.seed,
        around=around,
        at_once=method.at_once,
        log=keeper.log,
    )
    chosen = spread_out(latents, method.starts)
    if starts is not None:  # they are there for a reason
        chosen = np.concatenate([np.atleast_2d(starts), chosen])[: max(len(chosen), len(starts))]
    keeper.count(0, len(latents))
    keeper.put(begins=chosen)
    return chosen


def _descents(objective, method: Method, begins: np.ndarray, keeper: "_Keeper") -> Minima:
    """Follow every start down, each through all degrees of softness."""
    latents = keeper.rows("latents")
    costs = keeper.rows("costs")
    settled = keeper.rows("converged")
    taken = keeper.rows("steps")
    for first in range(len(latents), len(begins), method.at_once):
        group = begins[first : first + method.at_once]
        for degree, (discrepancy, length) in enumerate(method.soften):
            soft = least_squares(
                _softened(objective, discrepancy, length),
                group,
                most_steps=method.steps,
                tolerance=10.0 * method.tolerance,
                at_once=method.at_once,
                log=_tagged(keeper.log, start=first, softness=degree),
            )
            group = soft.latents
            keeper.count(soft.evaluations, 0)
        found = least_squares(
            objective,
            group,
            most_steps=method.steps,
            tolerance=method.tolerance,
            at_once=method.at_once,
            log=_tagged(keeper.log, start=first),
        )
        keeper.count(found.evaluations, 0)
        latents += list(found.latents)
        costs += list(found.costs)
        settled += list(found.converged)
        taken += list(found.steps)
        keeper.put(
            latents=np.array(latents),
            costs=np.array(costs),
            converged=np.array(settled),
            steps=np.array(taken),
        )
    parts = (np.array(latents), np.array(costs), np.array(settled), np.array(taken))
    return sorted_minima(Minima(*parts, evaluations=keeper.evaluations[0]))


def _softened(objective: Objective, discrepancy: float, length: float) -> Objective:
    """The objective with a wider model error, where its loss knows one."""

    def soft(loss: AbstractLoss) -> AbstractLoss:
        return loss.softened(discrepancy, length) if isinstance(loss, Waveform) else loss

    loss = jax.tree.map(soft, objective.loss, is_leaf=lambda x: isinstance(x, Waveform))
    return Objective(objective.model, objective.unknowns, loss, objective.predict)


def waveform_of(loss: AbstractLoss) -> Waveform | None:
    """The waveform among the parts of a loss."""
    leaves = jax.tree.leaves(loss, is_leaf=lambda x: isinstance(x, Waveform))
    return next((leaf for leaf in leaves if isinstance(leaf, Waveform)), None)


def correlation(first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."]) -> float:
    """Pearson's; zero where either is constant."""
    a, b = np.ravel(first) - np.mean(first), np.ravel(second) - np.mean(second)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else 0.0


def _warnings(result: Calibration) -> list[str]:
    found = []
    alike = result.correlation()
    if alike < 0.7:
        found.append(
            f"The fitted ECG correlates only {alike:.2f} with the recorded one: the answer is not "
            "to be used. Look whether leads are swapped, the QRS window is right and the noise is "
            "small; give more root nodes or wider priors."
        )
    weak = [name for name, r in result.lead_correlations().items() if r < 0.0]
    if weak:
        found.append(
            f"The fit runs against the recording in {', '.join(weak)}: these leads may be swapped, "
            "or their electrodes lie elsewhere."
        )
    if not result.minima.converged[0]:
        found.append("The best descent did not converge: allow more steps.")
    far = np.abs(result.latent) > 3.0
    if far.any():
        names = [n for n, f in zip(result.information.labels, far, strict=True) if f]
        found.append(
            f"{', '.join(names)}: beyond three standard deviations of the prior, which the ECG "
            "does not bear out; widen it or mend the model."
        )
    return found


def _tagged(log: Log, **tags: Any) -> Log:
    return lambda entry: log({**tags, **entry})


def fingerprint(whole: Any, words: str) -> str:
    """What must agree for a run to go on from another's state: all arrays, and some words."""
    digest = hashlib.sha256(words.encode())
    for array in jax.tree.leaves(eqx.filter(whole, eqx.is_array_like)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_arrays(path: Path, **arrays: Any) -> None:
    """Arrays in an .npz file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


class _Keeper:
    """Keeps the log and the state of a run in a folder, where there is one."""

    def __init__(self, folder: Path | str | None, key: str, resume: bool, log: Log | None):
        self.folder = None if folder is None else Path(folder)
        self.key, self._log, self._state = key, log, {}
        self.evaluations, self.seconds = (0, 0), 0.0
        self._began = time.perf_counter()
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / STATE
        if resume and path.exists():
            with np.load(path, allow_pickle=False) as kept:
                self._state = {name: kept[name] for name in kept.files}
            if str(self._state.pop("key")) != key:
                raise ValueError(
                    f"{path} is of another problem: its ECG, heart, priors or method differ. "
                    "Choose another folder, or start anew without resume."
                )
            first, second = self._state.pop("evaluations")
            self.evaluations = int(first), int(second)
            self.seconds = float(self._state.pop("seconds"))
        else:
            (self.folder / EVALUATIONS).unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def get(self, name: str) -> np.ndarray | None:
        return self._state.get(name)

    def rows(self, name: str) -> list[np.ndarray]:
        return list(self._state.get(name, ()))

    def put(self, **arrays: np.ndarray) -> None:
        self._state |= arrays
        if self.folder is None:
            return
        seconds = self.seconds + time.perf_counter() - self._began
        told = {"key": self.key, "evaluations": self.evaluations, "seconds": seconds}
        write_arrays(self.folder / STATE, **told, **self._state)

    def count(self, derivatives: int, values: int) -> None:
        self.evaluations = (self.evaluations[0] + derivatives, self.evaluations[1] + values)

    def log(self, entry: dict[str, Any]) -> None:
        if self.folder is not None:
            with (self.folder / EVALUATIONS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        if self._log is not None:
            self._log(entry)
