"""The measurements of one beat in JAX, smooth enough for gradients: soft thresholds, soft extremes.

Each soft step has the step of `features` and `delineation` as its limit, so that both give nearly
the same numbers on the same beat.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ecg import bundle_branch, delineation, features
from cardiotwin.ecg.delineation import (
    LATE_FRACTION,
    LATE_WITHIN,
    QRS_FRACTION,
    QUIET_AFTER,
    QUIET_BEFORE,
)
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.ecg.vcg import VCG_SOURCES, loop_area, vectorcardiogram
from cardiotwin.units import MS_PER_MIN, MS_PER_S

EXTREME = 0.01  # of a wave's size: what lies so near to its extreme counts as extreme
INSIDE = 0.5  # ms, width of the soft edges of the QRS
FLAT_T = 0.05  # mV, of the root mean square over the leads: a T wave less high has no sure end
TINY = 1e-12


def soft_measurements(
    ecg: Float[Array, "times leads"],
    names: Sequence[str] = LEAD_NAMES,
    *,
    step_ms: float = 1.0,
    rr_ms: float | Array | None = None,
) -> dict[str, Any]:
    """Measure one beat so that gradients, `vmap` and `jit` pass through.

    Args:
        ecg: [times, leads] mV, one beat in equal steps; times count from its first sample.
        names: of the leads; all of the standard twelve must be there.
        step_ms: between samples, at most 4 ms.
        rr_ms: interval between beats in ms, for rate and corrected QT; it also ends the search for
            the T wave where the next P wave may stand.

    Returns:
        Scalars under the keys of `measurements`: `qrs_onset_ms`, `qrs_offset_ms`,
        `qrs_duration_ms`, `qrs_area_uvs`, `qrs_axis_deg`, `t_peak_ms`, `t_end_ms`, `qt_ms`,
        `tpeak_tend_ms` and, with `rr_ms`, `heart_rate_bpm`, `qtc_bazett_ms`,
        `qtc_fridericia_ms`; `t_confidence` from 0 (T so flat that its times mean nothing) to 1, a
        weight for them in a loss; vectors `r_mv`, `s_mv` [leads], `r_share` [6];
        `qrs_energy_ms`, the time from 5 to 95 % of the energy of the leads' slopes in the QRS,
        smoother still; and `lbbb_score`, `rbbb_score` from 0 to 1, which leave out notches.

    Raises:
        ValueError: for missing leads, shapes that do not fit and steps that are too long.
    """
    names = tuple(names)
    _check(ecg, names, step_ms)
    ecg = jnp.asarray(ecg)
    times = jnp.arange(len(ecg), dtype=ecg.dtype) * step_ms
    speed = _speed(ecg, step_ms)
    onset, offset, inside = _soft_qrs(times, speed, step_ms)
    level = ecg - _soft_baseline(times, ecg, onset)[None]
    wave = level * inside[:, None]
    r, s = jax.vmap(_soft_r_s, in_axes=(1, None))(wave, inside)
    found: dict[str, Any] = {
        "qrs_onset_ms": onset,
        "qrs_offset_ms": offset,
        "qrs_duration_ms": offset - onset,
        "qrs_energy_ms": _energy_duration(times, speed, inside, step_ms),
        "qrs_area_uvs": _length(loop_area(times, vectorcardiogram(wave, names))),
        "qrs_axis_deg": _soft_axis(wave, names),
        "r_mv": r,
        "s_mv": s,
    }
    chest = np.array([names.index(name) for name in features.CHEST_LEADS])
    found["r_share"] = r[chest] / (r[chest] + s[chest] + TINY)
    found |= _soft_t(times, level, onset, offset, rr_ms, step_ms)
    found["qt_ms"] = found["t_end_ms"] - onset
    found["tpeak_tend_ms"] = found["t_end_ms"] - found["t_peak_ms"]
    found |= _block_scores(times, wave, names, found)
    if rr_ms is not None:
        rr = rr_ms / MS_PER_S
        found["heart_rate_bpm"] = MS_PER_MIN / jnp.asarray(rr_ms)
        found["qtc_bazett_ms"] = found["qt_ms"] / jnp.sqrt(rr)
        found["qtc_fridericia_ms"] = found["qt_ms"] / jnp.cbrt(rr)
    return found


def _check(ecg: Any, names: tuple[str, ...], step_ms: float) -> None:
    if ecg.ndim != 2 or ecg.shape[1] != len(names) or len(ecg) < 30:
        raise ValueError(
            f"soft_measurements: got an ECG of shape {ecg.shape} and {len(names)} names; expected "
            "[times, leads], 30 times or more and a name for each lead."
        )
    missing = [n for n in (*VCG_SOURCES, "aVF", "aVL") if n not in names]
    if missing:
        raise ValueError(f"soft_measurements: the ECG lacks {', '.join(missing)}.")
    if not 0.0 < step_ms <= delineation.COARSEST_STEP:
        raise ValueError(
            f"soft_measurements: step_ms is {step_ms:g}; expected 0 to "
            f"{delineation.COARSEST_STEP:g} ms. Save frames more often."
        )


def _length(vector: Any) -> Array:
    """Euclidean norm with a gradient at zero."""
    return jnp.sqrt(jnp.sum(vector**2) + TINY)


def _speed(ecg: Array, step: float) -> Array:
    """Spatial velocity [times] in mV/ms, as `delineation` takes it."""
    half = max(1, round(delineation.VELOCITY_WINDOW / 2 / step - 0.25))
    places = np.arange(-half, half + 1.0) * step
    padded = jnp.pad(ecg, ((half, half), (0, 0)), mode="edge")
    weights = places / np.sum(places**2)
    slope = sum(w * padded[k : k + len(ecg)] for k, w in enumerate(weights))
    return jnp.sqrt(jnp.sum(jnp.asarray(slope) ** 2, axis=1) + TINY)


def _soft_qrs(times: Array, speed: Array, step: float) -> tuple[Array, Array, Array]:
    """Onset, offset and the weight [times] of the QRS.

    The samples between which the speed falls below its threshold for long enough are found as in
    `delineation`; the crossing between them moves with the signal, and carries the gradient.
    """
    peak = jnp.max(speed)
    threshold = jnp.maximum(QRS_FRACTION * peak, 2.0 * jnp.percentile(speed, 20.0))
    top, count = jnp.argmax(speed), len(speed)
    index = jnp.arange(count)
    ahead = _running_max(speed[::-1], round(QUIET_BEFORE / step), 0.0)[::-1]
    behind = _running_max(speed, round(QUIET_AFTER / step), speed[-1])
    late = _running_max(speed, round(LATE_WITHIN / step), 0.0) > LATE_FRACTION * peak
    first = jnp.max(jnp.where((ahead < threshold) & (index < top), index, -1))
    last = jnp.min(jnp.where((behind < threshold) & ~late & (index > top), index, count - 1))
    # a beat that starts with the first sample has its onset there
    onset = times[jnp.maximum(first, 0)] + jnp.where(
        first < 0, 0.0, step * _crossing(speed, first, first + 1, threshold)
    )
    offset = times[last] - step * _crossing(speed, last, last - 1, threshold)
    return onset, offset, _window(times, onset, offset, INSIDE)


def _crossing(speed: Array, quiet: Array, loud: Array, threshold: Array) -> Array:
    """Share of the way from a quiet sample to its loud neighbour at which the speed crosses."""
    low, high = speed[jnp.maximum(quiet, 0)], speed[loud]
    return jnp.clip((threshold - low) / jnp.maximum(high - low, TINY), 0.0, 1.0)


def _running_max(values: Array, width: int, beyond: Any) -> Array:
    """Greatest of each value and the `width - 1` after it; `beyond` follows the last."""
    padded = jnp.concatenate([values, jnp.full(max(width, 1) - 1, beyond, values.dtype)])
    shifted = [padded[k : k + len(values)] for k in range(max(width, 1))]
    return jnp.max(jnp.stack(shifted), axis=0)


def _window(times: Array, start: Any, end: Any, edge: float = 2.0) -> Array:
    """Weight [times] of a window whose edges are so many ms wide."""
    return jax.nn.sigmoid((times - start) / edge) * jax.nn.sigmoid((end - times) / edge)


def _soft_baseline(times: Array, ecg: Array, onset: Array) -> Array:
    """Mean level [leads] just ahead of the QRS; the first sample where nothing lies ahead."""
    weight = _window(times, onset - 20.0, onset - 4.0, INSIDE)[:, None]
    little = 1e-3
    return (jnp.sum(weight * ecg, axis=0) + little * ecg[0]) / (jnp.sum(weight) + little)


def _soft_maximum(values: Array, weight: Array, scale: Array) -> Array:
    """Weighted mean of the values that are near to the greatest one."""
    logits = values / (EXTREME * scale + TINY) + jnp.log(weight + TINY)
    return jnp.sum(jax.nn.softmax(logits) * values)


def _soft_r_s(wave: Array, inside: Array) -> tuple[Array, Array]:
    """R and S of one lead; S is the deepest point after R has begun, or of all without an R."""
    size = jnp.max(wave) - jnp.min(wave) + TINY
    least = features.LEAST_WAVE * size
    begun = jnp.cumsum(jax.nn.softplus((wave - least) / (0.1 * least)) * inside)
    after = 1.0 - jnp.exp(-begun)
    has_r = after[-1]
    r = has_r * _soft_maximum(wave, inside, size)
    s = has_r * _soft_maximum(-wave * after, inside, size)
    s = s + (1.0 - has_r) * _soft_maximum(-wave, inside, size)
    return jax.nn.relu(r), jax.nn.relu(s)


def _soft_axis(wave: Array, names: Sequence[str]) -> Array:
    one, foot = (jnp.sum(wave[:, names.index(name)]) for name in ("I", "aVF"))
    return jnp.rad2deg(jnp.arctan2(foot * 2.0 / np.sqrt(3.0), one))


def _energy_duration(times: Array, speed: Array, inside: Array, step: float) -> Array:
    """Time from 5 to 95 % of the energy of the slopes within the QRS."""
    share = jnp.cumsum(speed**2 * inside)
    share = share / share[-1]
    ends = times + step / 2.0
    return jnp.interp(0.95, share, ends) - jnp.interp(0.05, share, ends)


def _soft_t(
    times: Array, level: Array, onset: Array, offset: Array, rr_ms: Any, step: float
) -> dict[str, Array]:
    """Peak of T in the root mean square over the leads, and its end by the tangent."""
    height = _smoothed(jnp.sqrt(jnp.mean(level**2, axis=1) + TINY), step)
    end = times[-1] if rr_ms is None else onset + features.LATEST_T * rr_ms
    window = _window(times, offset + delineation.EARLIEST_T, end)
    hill = height * window
    weight = jax.nn.softmax(hill / (EXTREME * jnp.max(hill)) + jnp.log(window + TINY))
    peak, top = jnp.sum(weight * times), jnp.sum(weight * height)
    after = window * jax.nn.sigmoid((times - peak) / 2.0)
    slope: Any = jnp.gradient(height, step)
    steepest = jnp.max(-slope * after)
    weight = jax.nn.softmax(-slope * after / (EXTREME * steepest) + jnp.log(after + TINY))
    at, high, fall = (jnp.sum(weight * x) for x in (times, height, -slope))
    floor = -_soft_maximum(-height, after, jnp.max(hill))
    confidence = jax.nn.sigmoid((top - floor - FLAT_T) / (0.2 * FLAT_T))
    return {
        "t_peak_ms": peak,
        "t_end_ms": at + (high - floor) / fall,
        "t_confidence": confidence,
    }


def _smoothed(values: Array, step: float) -> Array:
    """Gaussian smoothing, reflected at the ends, as SciPy's `gaussian_filter1d`."""
    sigma = delineation.T_SMOOTHING / step
    half = int(4.0 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    padded = jnp.pad(values, half, mode="symmetric")
    return jnp.convolve(padded, jnp.asarray(kernel / kernel.sum(), values.dtype), mode="valid")


def _block_scores(
    times: Array, wave: Array, names: Sequence[str], found: dict[str, Any]
) -> dict[str, Array]:
    """How far the block criteria of duration and polarity are met; 0.5 is on the threshold."""
    sigmoid = jax.nn.sigmoid
    duration = found["qrs_duration_ms"]
    last = _window(times, found["qrs_offset_ms"] - bundle_branch.LONG_S, found["qrs_offset_ms"])
    size = jnp.max(jnp.abs(wave), axis=0) + TINY
    late = jnp.sum(wave * last[:, None], axis=0) / jnp.sum(last) / size
    v1, one, six = (late[names.index(name)] for name in ("V1", "I", "V6"))
    long_left = sigmoid((duration - bundle_branch.LBBB_DURATION["male"]) / 5.0)
    long_right = sigmoid((duration - bundle_branch.RBBB_DURATION) / 5.0)
    share = found["r_share"]
    return {
        "lbbb_score": long_left * sigmoid((0.5 - share[0]) / 0.1) * sigmoid((0.5 - share[1]) / 0.1),
        "rbbb_score": long_right * sigmoid(v1 / 0.1) * sigmoid(-one / 0.1) * sigmoid(-six / 0.1),
    }
