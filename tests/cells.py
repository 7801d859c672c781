"""The ionic models that are verified, what each is compared with, and the tools to do so.

A new model is a row of `CASES`; `test_cells.py` runs every check on every row. The comparison with
CellML takes an independent route: Myokit reads the file and evaluates its equations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from cardiotwin.ionic import (
    AbstractIonicModel,
    AlievPanfilov,
    BeelerReuter1977,
    BuenoOrovio,
    Courtemanche1998,
    FentonKarma,
    FitzHughNagumo,
    LuoRudy1991,
    MitchellSchaeffer,
    ModifiedMitchellSchaeffer,
    OHaraRudy2011,
    OHaraRudyCiPA,
    Stewart2009,
    TenTusscherPanfilov2006,
    TenTusscherRestitution,
    ToRORdDynCl,
)
from cardiotwin.ionic.stepping import IonicStep, stepper

AMPLITUDE, DURATION = 52.0, 1.0  # stimulus, mV/ms and ms
EVERY = 0.1  # ms between recorded potentials


@dataclass(frozen=True)
class Trace:
    """A beat of Chaste's with the whole state in every row.

    The stimulus is not on record, so the comparison starts from the state of the first row after
    it and needs none.

    Attributes:
        file: under `chaste-ap-references`.
        columns: names of our variables in the order of the file's columns, "V" among them; the
            first column is the time. "" for a column that we have no variable for.
        begin: time of the row to start from, ms.
        tolerance: largest difference of V allowed, mV.
        model: the cell with the parameters of that run; the case's own where None.
        end: time of the last row to compare, ms, before a next stimulus.
    """

    file: str
    columns: tuple[str, ...]
    begin: float
    tolerance: float
    model: Callable[[], AbstractIonicModel] | None = None
    end: float = 1e9


@dataclass(frozen=True)
class Case:
    """One model, or one cell type of it.

    Attributes:
        make: the model with its published parameters and the shipped initial state.
        cellml: file under `cellml` that its rates are compared with; None where there is none.
        names: our variables (and "V") to the CellML variables of another name; those that have the
            same name, capitals apart, need no entry.
        scales: our variable to (factor, offset) where units differ: ours = offset + factor theirs.
        constants: CellML variables (qualified name) to the value they are given before comparing.
        ours: parameters of ours that are replaced before comparing with the CellML file.
        exceptions: our variable to a function of V (mV) that says where the CellML file departs
            from the paper; the rate is not compared there. The reason belongs in the model's page.
        trace: Chaste's beat, or None.
        ionic_step: the step the model is verified with.
        fraction: states between 0 and 1 beside the gates.
        remainders: CellML states that we have no variable for to those of ours that, with it, are
            shares of one whole.
        simplexes: groups of states that are shares of one whole (Markov states).
        ranges: states to (low, high) of the random states; half to one and a half times the
            initial value where not given.
        unbounded: gates that may leave [0, 1].
        bounds: potentials (mV) that no step may leave, from any potential of -150 to 100 mV.
        singular: potentials (mV) of removable singularities.
        switches: potentials (mV) where a rate changes its branch.
        balance: of the model, V and state: two arrays that conservation makes equal, or None.
        largest_dt: longest step without NaN, ms.
        coarse: relative L2 error of V allowed at 0.05 ms.
        beat: length of the beat compared with the stiff integration, ms.
        apd90: published action potential duration at 1000 ms with its relative tolerance, or None.
        limit_cycle: relative change of a state allowed in a beat from the initial state; None for
            models that start from rest.
    """

    make: Callable[[], AbstractIonicModel]
    cellml: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    ours: Mapping[str, float] = field(default_factory=dict)
    exceptions: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    trace: Trace | None = None
    ionic_step: IonicStep = "rush_larsen"
    fraction: tuple[str, ...] = ()
    remainders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    simplexes: tuple[tuple[str, ...], ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unbounded: tuple[str, ...] = ()
    bounds: tuple[float, float] = (-160.0, 110.0)
    singular: tuple[float, ...] = ()
    switches: tuple[float, ...] = ()
    balance: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    largest_dt: float = 0.1
    coarse: float = 0.02
    beat: float = 480.0
    apd90: tuple[float, float] | None = None
    limit_cycle: float | None = None


def ten_tusscher_charge(model, v, y):
    """Charge of all ions in the cell, and the ionic current that carries it away."""
    i_ion, rate = model(v, y)

    def total(rate_free, ca, buffer, half):
        return rate_free * (1 + buffer * half / (ca + half) ** 2)

    calcium = (
        model.V_c * total(rate.Ca_i, y.Ca_i, model.Buf_c, model.K_buf_c)
        + model.V_sr * total(rate.Ca_SR, y.Ca_SR, model.Buf_sr, model.K_buf_sr)
        + model.V_ss * total(rate.Ca_ss, y.Ca_ss, model.Buf_ss, model.K_buf_ss)
    )
    return model.F * (model.V_c * (rate.Na_i + rate.K_i) + 2 * calcium), -model.C * i_ion


def courtemanche_charge(model, v, y):
    """Charge of all ions in the cell, and the ionic current that carries it away."""
    i_ion, rate = model(v, y)
    m = model
    bound = m.TRPN_max * m.K_mTRPN / (y.Ca_i + m.K_mTRPN) ** 2
    bound = bound + m.CMDN_max * m.K_mCMDN / (y.Ca_i + m.K_mCMDN) ** 2
    stored = m.CSQN_max * m.K_mCSQN / (y.Ca_rel + m.K_mCSQN) ** 2
    calcium = (
        m.V_i * rate.Ca_i * (1 + bound) + m.V_up * rate.Ca_up + m.V_rel * rate.Ca_rel * (1 + stored)
    )
    return m.F * (m.V_i * (rate.Na_i + rate.K_i) + 2 * calcium), -m.C_m * i_ion


def ohara_rudy_charge(model, v, y):
    """Charge of all ions in the cell (chloride negative), and the ionic current."""
    i_ion, rate = model(v, y)

    def total(free, ca, *buffers):
        return free * (1 + sum(most * half / (ca + half) ** 2 for most, half in buffers))

    m = model
    calcium = (
        m.v_myo * total(rate.Ca_i, y.Ca_i, (m.CMDN_max, m.K_mCMDN), (m.TRPN_max, m.K_mTRPN))
        + m.v_ss * total(rate.Ca_ss, y.Ca_ss, (m.BSR_max, m.K_mBSR), (m.BSL_max, m.K_mBSL))
        + m.v_jsr * total(rate.Ca_jsr, y.Ca_jsr, (m.CSQN_max, m.K_mCSQN))
        + m.v_nsr * rate.Ca_nsr
    )
    bulk, subspace = rate.Na_i + rate.K_i, rate.Na_ss + rate.K_ss
    if "Cl_i" in model.State._fields:
        bulk, subspace = bulk - rate.Cl_i, subspace - rate.Cl_ss
    return m.F * (m.v_myo * bulk + m.v_ss * subspace + 2 * calcium), -m.A_cap * i_ion


OHARA_RUDY_NAMES = {
    "V": "membrane.v", "Na_i": "nai", "Na_ss": "nass", "K_i": "ki", "K_ss": "kss", "Ca_i": "cai",
    "Ca_ss": "cass", "Ca_nsr": "cansr", "Ca_jsr": "cajsr", "Cl_i": "cli", "Cl_ss": "clss",
}  # fmt: skip
HERG = ("C1", "C2", "O", "I")
tor_ord = partial(
    Case,
    names=OHARA_RUDY_NAMES, fraction=("nca_ss", "nca_i", *HERG), remainders={"C3": HERG},
    ranges={"Jrel_np": (0.0, 0.01), "Jrel_p": (0.0, 0.01)}, singular=(0.0,),
    switches=(-40.0, 31.4978), balance=ohara_rudy_charge, limit_cycle=2e-3, bounds=(-160.0, 115.0),
)  # fmt: skip
ohara_rudy = partial(
    Case,
    names=OHARA_RUDY_NAMES | {"Jrel_np": "Jrelnp", "Jrel_p": "Jrelp"}, fraction=("nca",),
    ranges={"Jrel_np": (0.0, 0.01), "Jrel_p": (0.0, 0.01)}, singular=(0.0,),
    balance=ohara_rudy_charge, limit_cycle=2e-3, bounds=(-160.0, 115.0),
)  # fmt: skip
CIPA_HERG = ("IC2", "C1", "C2", "O", "IO", "IObound", "Obound", "Cbound")
DRUG = {"D": 120.0, "K_max": 5e7, "K_u": 2e-3, "n": 0.9, "halfmax": 1e4, "V_half": -10.0}
cipa = partial(
    ohara_rudy,
    cellml="ohara_rudy_cipa_v1_2017.cellml", fraction=("nca", *CIPA_HERG),
    remainders={"IC1": CIPA_HERG}, ours=DRUG,
)  # fmt: skip


def cipa_constants(cell_type):
    """The same drug in the CellML file."""
    drug = {f"IKr.{name.replace('_', '')}": value for name, value in DRUG.items()}
    return {**drug, "IKr.Kt": 3.5e-5, "environment.celltype": cell_type}


bueno_orovio = partial(
    Case,
    scales={"V": (85.7, -84.0)}, unbounded=("w",), coarse=0.03,
    # u = theta_v_minus or theta_o, theta_w and theta_v; endo has theta_v_minus at 0.2
    switches=tuple(-84.0 + 85.7 * u for u in (0.005, 0.006, 0.1, 0.13, 0.2, 0.3)),
    # the files (a thesis of 2007) switch w at u = 0.006, the paper at theta_w
    exceptions={"w": lambda v: (v >= -84.0 + 85.7 * 0.006) & (v < -84.0 + 85.7 * 0.13)},
)  # fmt: skip
ten_tusscher = partial(
    Case,
    fraction=("R_prime",), singular=(15.0,), switches=(-40.0,), balance=ten_tusscher_charge,
    limit_cycle=2e-3,
)  # fmt: skip
fenton_karma = partial(Case, switches=tuple(-85.0 + 100.0 * u for u in (0.0, 0.04, 0.055, 0.13)))
TEN_TUSSCHER_TRACE = Trace(
    "cellml/ten_tusscher_model_2006_epi.dat",
    ("V", "Ca_i", "Xr1", "Xr2", "Xs", "m", "h", "j", "d", "f", "f2", "fCass", "s", "r", "Ca_SR",
     "Ca_ss", "R_prime", "Na_i", "K_i"),
    60.0, 0.1,
)  # fmt: skip
COURTEMANCHE_TRACE = Trace(
    "cellml/courtemanche_ramirez_nattel_1998.dat",
    ("V", "Ca_i", "m", "h", "j", "oa", "oi", "ua", "ui", "xr", "xs", "d", "f", "f_Ca", "u", "v",
     "w", "Na_i", "K_i", "Ca_rel", "Ca_up"),
    60.0, 0.1,
)  # fmt: skip
STEWART_TRACE = Trace(
    "cellml/stewart_zhang_model_2008_ss.dat",
    ("V", "Ca_i", "y", "Xr1", "Xr2", "Xs", "m", "h", "j", "d", "f", "f2", "fCass", "s", "r",
     "Ca_SR", "Ca_ss", "R_prime", "Na_i", "K_i"),
    0.0, 0.5,
)  # fmt: skip

CASES: dict[str, Case] = {
    "Aliev-Panfilov": Case(AlievPanfilov, switches=(-80.0,)),
    "Beeler-Reuter 1977": Case(
        BeelerReuter1977, "beeler_reuter_model_1977.cellml", names={"Ca_i": "Cai"},
        singular=(-47.0, -23.0), limit_cycle=2e-3,
        trace=Trace(
            "cellml/beeler_reuter_model_1977.dat",
            ("V", "m", "h", "j", "Ca_i", "d", "f", "x1"), 60.0, 0.1,
        ),
    ),
    "Bueno-Orovio endo": bueno_orovio(
        BuenoOrovio.endo, "bueno_2007_endo.cellml", apd90=(262.0, 0.02),
        constants={"fast_inward_current.tau_fi": 0.1, "q.u_q": 0.2},  # the paper's Table 1
    ),
    "Bueno-Orovio mid": bueno_orovio(BuenoOrovio.mid, apd90=(409.0, 0.02), beat=700.0),
    "Bueno-Orovio epi": bueno_orovio(
        BuenoOrovio.epi, "bueno_2007_epi.cellml", apd90=(268.0, 0.02)
    ),
    "Courtemanche 1998": Case(
        Courtemanche1998, "courtemanche_ramirez_nattel_1998.cellml", fraction=("u", "v"),
        singular=(-47.13, -14.1, -10.0, 3.3328, 7.9, 19.9), switches=(-40.0,),
        balance=courtemanche_charge, limit_cycle=2e-3, trace=COURTEMANCHE_TRACE,
    ),
    "Fenton-Karma BR": fenton_karma(FentonKarma.br),
    "Fenton-Karma MBR": fenton_karma(FentonKarma.mbr),
    "Fenton-Karma MLR-I": fenton_karma(FentonKarma.mlr1),
    "FitzHugh-Nagumo": Case(FitzHughNagumo, unbounded=("v",)),
    "Luo-Rudy 1991": Case(
        LuoRudy1991, "luo_rudy_1991.cellml", names={"Ca_i": "Cai"},
        singular=(-47.13, -77.0), switches=(-100.0, -40.0), limit_cycle=2e-3,
        trace=Trace(
            "ionicmodels/Lr91RegularStimValidData.dat",
            ("h", "j", "m", "Ca_i", "V", "d", "f", "X"), 60.0, 0.1, end=550.0,
        ),
    ),
    "Mitchell-Schaeffer": Case(
        MitchellSchaeffer, switches=(-85.0 + 0.13 * 125.0,), apd90=(282.0, 0.02)
    ),
    "O'Hara-Rudy 2011 endo": ohara_rudy(OHaraRudy2011.endo),
    "O'Hara-Rudy 2011 mid": ohara_rudy(OHaraRudy2011.mid, beat=600.0),
    "O'Hara-Rudy 2011 epi": ohara_rudy(OHaraRudy2011.epi),
    "O'Hara-Rudy CiPA endo": cipa(OHaraRudyCiPA.endo, constants=cipa_constants(0)),
    "O'Hara-Rudy CiPA mid": cipa(OHaraRudyCiPA.mid, constants=cipa_constants(2), beat=600.0),
    "O'Hara-Rudy CiPA epi": cipa(OHaraRudyCiPA.epi, constants=cipa_constants(1)),
    "Stewart 2009": Case(
        Stewart2009, "stewart_zhang_model_2008_ss.cellml", fraction=("R_prime",), singular=(15.0,),
        switches=(-40.0,), balance=ten_tusscher_charge, trace=STEWART_TRACE,
    ),
    "modified Mitchell-Schaeffer": Case(
        ModifiedMitchellSchaeffer, switches=(-85.0 + 0.13 * 125.0,)
    ),
    "ten Tusscher-Panfilov 2006 endo": ten_tusscher(
        TenTusscherPanfilov2006.endo, "ten_tusscher_model_2006_endo.cellml"
    ),
    "ten Tusscher-Panfilov 2006 mid": ten_tusscher(
        TenTusscherPanfilov2006.mid, "ten_tusscher_model_2006_M.cellml", beat=700.0
    ),
    "ten Tusscher-Panfilov 2006 epi": ten_tusscher(
        TenTusscherPanfilov2006.epi, "ten_tusscher_model_2006_epi.cellml", apd90=(305.0, 0.02),
        trace=TEN_TUSSCHER_TRACE,
    ),
    "ToR-ORd dynCl endo": tor_ord(ToRORdDynCl.endo, "ToRORd_dynCl_endo.cellml"),
    "ToR-ORd dynCl mid": tor_ord(
        ToRORdDynCl.mid, "ToRORd_dynCl_endo.cellml", constants={"environment.celltype": 2},
        beat=600.0,
    ),
    "ToR-ORd dynCl epi": tor_ord(ToRORdDynCl.epi, "ToRORd_dynCl_epi.cellml"),
    "ten Tusscher-Panfilov 2006 slope 1.8": ten_tusscher(
        partial(TenTusscherRestitution.with_slope, 1.8), switches=(-40.0, 0.0), limit_cycle=None
    ),
}  # fmt: skip


def random_point(model, count=40, seed=0, case=None):
    """Potentials from -120 to 60 mV, gates from 0 to 1, concentrations within 50 % of initial."""
    rng = np.random.default_rng(seed)
    case = Case(type(model), fraction=("R_prime",)) if case is None else case
    _, start = model.initial()
    values = {}
    for name, value in start._asdict().items():
        unit = name in case.fraction or (name in model.gates and name not in case.ranges)
        low, high = (0.0, 1.0) if unit else case.ranges.get(name, (0.5 * value, 1.5 * value))
        values[name] = rng.uniform(low, high, count)
    for group in (*case.simplexes, *case.remainders.values()):
        rest = group not in case.simplexes  # one share more, which has no variable
        shares = rng.dirichlet(np.ones(len(group) + rest), count).T
        values.update(zip(group, shares[: len(group)], strict=True))
    state = model.State(*(jnp.asarray(x) for x in values.values()))
    return jnp.asarray(rng.uniform(-120, 60, count)), state


# --- one cell, as few programs as possible: numbers are arguments, compiled once a model ---------


@partial(jax.jit, static_argnames=("frames", "kind"))
def _record(model, v, state, dt, stride, on, ions, frames, kind):
    def step(i, carry):
        stimulus = jnp.where(i < on, AMPLITUDE, 0.0)
        v, state = stepper(kind)(model, *carry, dt, stimulus)
        carried = model.stimulus_rates(ions * stimulus)
        added = {name: getattr(state, name) + dt * rate for name, rate in carried.items()}
        return v, state._replace(**added)

    def frame(carry, j):
        carry = jax.lax.fori_loop(j * stride, (j + 1) * stride, step, carry)
        return carry, carry[0]

    return jax.lax.scan(frame, (v, state), jnp.arange(frames))


def record(model, dt, *, initial=None, stimulus=True, ions=False, kind="rush_larsen"):
    """The second that follows one stimulus: times, potentials and the state at the end.

    With `ions` the stimulus carries ions; without, it is as the stiff integration has it.
    """
    v, state = model.initial() if initial is None else initial
    v, *values = (jnp.asarray(x, float) for x in (v, *state))
    on = round(DURATION / dt) if stimulus else 0
    frames = round(1000.0 / EVERY)
    end, recorded = _record(
        model.astype(float), v, model.State(*values), dt, round(EVERY / dt), on, float(ions),
        frames, kind,
    )  # fmt: skip
    t = EVERY * np.arange(frames + 1)
    return t, np.concatenate([[float(v)], np.asarray(recorded)]), end


# A result for every rate: to stack them within the program took XLA minutes for large models.
@jax.jit
def _rates(y, model, stimulus):
    i_ion, rates = model(y[0], model.State(*y[1:]))
    return (stimulus - i_ion, *rates)


_slopes = jax.jit(jax.jacfwd(_rates))


def packed_rate(y, model, stimulus):
    """Rates of V and of every state variable, one array."""
    return np.stack(_rates(jnp.asarray(y), model, stimulus))


def packed_jacobian(y, model, stimulus):
    """Their derivatives, [rate, variable]."""
    return np.stack(_slopes(jnp.asarray(y), model, stimulus))


def stiff_reference(model, times, amplitude=AMPLITUDE, duration=DURATION, initial=None):
    """SciPy's BDF at rtol 1e-8 with the model's exact Jacobian, on both sides of the edge."""
    v0, state0 = model.initial() if initial is None else initial
    model = model.astype(float)
    y, values = np.array([v0, *state0], float), [np.array([v0], float)]
    for begin, end, stimulus in ((0.0, duration, amplitude), (duration, times[-1], 0.0)):
        inside = times[(times > begin) & (times <= end)]
        result = solve_ivp(
            lambda t, y, s=stimulus: np.asarray(packed_rate(y, model, s)),
            (begin, end), y, method="BDF", t_eval=inside, rtol=1e-8, atol=1e-10,
            jac=lambda t, y, s=stimulus: np.asarray(packed_jacobian(y, model, s)),
        )  # fmt: skip
        assert result.success
        y = result.y[:, -1]
        values.append(result.y[0])
    return np.concatenate(values)


# --- Myokit's evaluation of a CellML file ---------------------------------------------------------


class CellML:
    """The equations of a CellML file, its stimulus off, in our names and units."""

    def __init__(self, path: Path, case: Case):
        import myokit.formats

        self.model = myokit.formats.importer("cellml").model(str(path))
        for variable in self.model.variables(deep=True, const=True):
            name = variable.qname().lower()
            if "stim" in name and "amplitude" in name:
                variable.set_rhs(0)
        for name, value in case.constants.items():
            self.model.get(name).set_rhs(value)
        self.scales = case.scales
        known = {state.name(): state for state in self.model.states()}
        known |= {state.qname(): state for state in self.model.states()}
        known = {name.lower(): state for name, state in known.items()} | known
        self.fields = ("V", *case.make().State._fields)
        wanted = [case.names.get(name, name) for name in self.fields]
        self.states = [known.get(name, known[name.lower()]) for name in wanted]
        self.remainders = {
            known[name]: [self.fields.index(share) - 1 for share in shares]
            for name, shares in case.remainders.items()
        }
        assert {*self.states, *self.remainders} == set(self.model.states())

    def rates(self, v: Any, state: Any) -> dict[str, np.ndarray]:
        """Rates per ms of V and of every state variable at every point."""
        points = [self._at(*point) for point in zip(v, zip(*state, strict=True), strict=True)]
        return {name: np.array([point[name] for point in points]) for name in self.fields}

    def _at(self, v: Any, state: Any) -> dict[str, float]:
        given = {}
        for name, theirs, value in zip(self.fields, self.states, (v, *state), strict=True):
            factor, offset = self.scales.get(name, (1.0, 0.0))
            given[theirs] = (float(value) - offset) / factor
        for theirs, shares in self.remainders.items():
            given[theirs] = 1.0 - sum(float(state[place]) for place in shares)
        order = list(self.model.states())
        values = [given[state] for state in order]
        found = self.model.evaluate_derivatives(values, ignore_errors=True)  # underflow is none
        rate = dict(zip(order, found, strict=True))
        return {
            name: rate[theirs] * self.scales.get(name, (1.0, 0.0))[0]
            for name, theirs in zip(self.fields, self.states, strict=True)
        }


class Imported:
    """The model that a CellML file is imported as, in our names."""

    def __init__(self, path: Path, case: Case):
        from cardiotwin.ionic.imported import cell_model_class

        made = cell_model_class(path, check=False)
        about = made.description
        field = {x.source.lower(): x.name for x in about.parameters}
        self.model = made(
            **{field[key.lower()]: value for key, value in case.constants.items()}
        ).astype(float)
        theirs = {x.source.split(".")[-1].lower(): x.name for x in about.states}
        theirs |= {x.name.lower(): x.name for x in about.states}
        self.fields = {
            name: theirs[key]
            for name in case.make().State._fields
            if (key := case.names.get(name, name).lower()) in theirs
        }
        self.remainders = [
            (theirs[key], shares)
            for name, shares in case.remainders.items()
            if (key := name.lower()) in theirs
        ]

    def rates(self, v: Any, state: Any) -> dict[str, np.ndarray]:
        """Rates per ms of V and of every state variable at every point."""
        values = {theirs: getattr(state, name) for name, theirs in self.fields.items()}
        for theirs, shares in self.remainders:
            values[theirs] = 1.0 - sum(getattr(state, name) for name in shares)
        i_ion, rates = self.model(v, self.model.State(**values))
        found = {name: getattr(rates, theirs) for name, theirs in self.fields.items()}
        return {name: np.asarray(x) for name, x in ({"V": -i_ion} | found).items()}


@cache
def model_of(name: str) -> AbstractIonicModel:
    """The model of a case, made once."""
    return CASES[name].make()
