"""Whether an imported model does what its file says, and can be stepped."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from cardiotwin.ionic.biomarkers import action_potential_duration
from cardiotwin.ionic.imported.build import Description
from cardiotwin.ionic.imported.model import ImportedModel, jacobian, potential_and_rates
from cardiotwin.ionic.pacing import single_cell

L2, APD, RATES = 0.01, 1.0, 1e-6
_LENGTH, _EVERY = 600.0, 0.1  # ms
# The longest time step that does counts; one that needs a shorter step still is refused.
_STEPS = (0.02, 0.01)  # ms
_AMPLITUDE, _DURATION = 52.0, 1.0  # mV/ms, ms: as `single_cell`
_POINTS = 6

_rates = eqx.filter_jit(potential_and_rates)
_jacobian = eqx.filter_jit(jacobian)


def check(cell: ImportedModel, source: Any) -> dict[str, float]:
    """Compare rates with Myokit's, and one beat at 0.02 ms, else 0.01 ms, with SciPy's BDF.

    Args:
        cell: the imported model.
        source: the `myokit.Model` that it was made of.

    Returns:
        Figures by name, for the report.

    Raises:
        ValueError: a figure is beyond its bound.
    """
    with jax.enable_x64(True):
        model = cell.astype(jnp.float64)
        figures = {"largest relative difference of a rate": _rates_off(model, source)}
        t = _EVERY * np.arange(round(_LENGTH / _EVERY) + 1)
        exact = _stiff(model, t)
        for dt in _STEPS:
            figures |= {"time step (ms)": dt, **_beat_off(model, dt, t, exact)}
            if not _over(figures):
                return figures
    raise ValueError(_refusal(figures))


def without_stimulus(source: Any, about: Description) -> Any:
    """A copy of the file's `myokit.Model` with the stimulus at 0."""
    still = source.clone()
    for key in about.stimulus:
        variable = still.get(key)
        if variable.binding() is not None:
            variable.set_binding(None)
        variable.set_rhs(0)
    return still


def rates_in_file(
    still: Any, about: Description, v: float, values: dict[str, float]
) -> list[float]:
    """Myokit's own rates at a point, in mV, mM and ms.

    Args:
        still: the `myokit.Model`, its stimulus at 0.
        about: names and units of the imported one.
        v: potential, mV.
        values: of the state variables by their names here.

    Returns:
        Rates of the potential and of the state variables in the order of the State.
    """
    names = {about.potential[0]: (v - about.rest) * about.per_mv}
    names |= {x.source: values[x.name] / x.factor for x in about.states}
    names |= {x.state: x.total - sum(values[y] for y in x.others) for x in about.remainders}
    order = [variable.qname() for variable in still.states()]
    found = still.evaluate_derivatives([names[key] for key in order], ignore_errors=True)
    rates = dict(zip(order, found, strict=True))
    return [
        rates[about.potential[0]] * about.per_ms / about.per_mv,
        *(rates[x.source] * x.factor * about.per_ms for x in about.states),
    ]


def random_points(cell: ImportedModel, count: int, seed: int = 3) -> list[tuple[float, dict]]:
    """Potentials from -120 to 60 mV and states: gates anywhere, the others within a half."""
    rng = np.random.default_rng(seed)
    free = {x.name for x in cell.description.states if x.unit == "" and 0 <= x.value <= 1}
    return [
        (
            float(rng.uniform(-120.0, 60.0)),
            {
                x.name: float(
                    rng.uniform(0.02, 0.98) if x.name in free else x.value * rng.uniform(0.5, 1.5)
                )
                for x in cell.description.states
            },
        )
        for _ in range(count)
    ]


def _rates_off(model: ImportedModel, source: Any) -> float:
    """Largest difference from Myokit's rates, over the rate, or a millionth of its largest."""
    ours, theirs = [], []
    still = without_stimulus(source, model.description)
    for v, values in random_points(model, _POINTS):
        y = jnp.asarray([v, *values.values()], jnp.float64)
        ours.append(np.asarray(_rates(model, y, jnp.asarray(0.0, jnp.float64))))
        theirs.append(rates_in_file(still, model.description, v, values))
    ours, theirs = np.asarray(ours), np.asarray(theirs, np.float64)
    size = np.abs(theirs) + 1e-6 * np.max(np.abs(theirs), axis=0) + 1e-300
    off = np.abs(ours - theirs) / size
    return float(np.max(np.where(np.isfinite(theirs), off, 0.0), initial=0.0))


def _beat_off(
    model: ImportedModel, dt: float, t: np.ndarray, exact: np.ndarray
) -> dict[str, float]:
    _, v = single_cell(
        model,
        cycle_length=_LENGTH,
        dt=dt,
        every=_EVERY,
        amplitude=_AMPLITUDE,
        duration=_DURATION,
        conserve_charge=False,
        dtype=jnp.float64,
    )
    with np.errstate(all="ignore"):
        l2 = float(np.linalg.norm(v - exact) / np.linalg.norm(exact))
    figures = {"relative L2 error of V": l2, "peak (mV)": float(exact.max())}
    ours, theirs = (action_potential_duration(t, x) for x in (v, exact))
    if np.isfinite(theirs):  # else it does not repolarise within the beat
        figures |= {"APD90 (ms)": float(theirs), "its error (ms)": abs(float(ours - theirs))}
    return figures


def _stiff(model: ImportedModel, times: np.ndarray) -> np.ndarray:
    """SciPy's BDF with the exact Jacobian, on both sides of the stimulus's end."""
    v0, state0 = model.initial()
    y = np.array([v0, *state0], np.float64)
    values = [y[:1]]
    for begin, end, stimulus in (
        (0.0, _DURATION, _AMPLITUDE),
        (_DURATION, float(times[-1]), 0.0),
    ):
        s = jnp.asarray(stimulus, jnp.float64)
        inside = times[(times > begin) & (times <= end)]
        found = solve_ivp(
            lambda t, z, s=s: np.asarray(_rates(model, z, s)),
            (begin, end),
            y,
            method="BDF",
            t_eval=inside,
            rtol=1e-8,
            atol=1e-10,
            jac=lambda t, z, s=s: np.asarray(_jacobian(model, z, s)),
        )
        if not found.success:
            raise ValueError(
                f"SciPy's BDF gave up at {found.t[-1] if len(found.t) else begin:g} ms of a beat "
                f"({found.message}); expected a model that can be integrated. Look at the rates "
                "there, or import it with check=False."
            )
        y = found.y[:, -1]
        values.append(found.y[0])
    return np.concatenate(values)


def _over(figures: dict[str, float]) -> list[str]:
    """The figures beyond their bounds, as text."""
    bounds = {
        "largest relative difference of a rate": RATES,
        "relative L2 error of V": L2,
        "its error (ms)": APD,
    }
    return [
        f"{key} {figures[key]:.3g} (at most {bound:g})"
        for key, bound in bounds.items()
        if key in figures and not figures[key] <= bound
    ]


def _refusal(figures: dict[str, float]) -> str:
    told = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
    return (
        "the imported model failed its check against Myokit's rates and SciPy's BDF over one beat "
        f"at dt {_STEPS[-1]:g} ms: {'; '.join(_over(figures))}. All figures: {told}. Take "
        "check=False to import it nevertheless, with a shorter time step."
    )
