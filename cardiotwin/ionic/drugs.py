"""Drugs: pore block of several channels, and dynamic binding to hERG.

A pore block leaves the share 1/(1 + (C/IC50)^h) of a conductance at the free concentration C. The
twelve drugs here are the training set of CiPA: block of I_CaL, I_NaL, I_Na, I_to, I_Ks and I_K1 as
fitted to Crumb et al. 2016 (https://doi.org/10.1016/j.vascn.2016.03.009), block of I_Kr and its
dynamic binding (Li et al. 2017, https://doi.org/10.1161/CIRCEP.116.004628) as the FDA published
them with the free therapeutic concentrations (https://github.com/FDA/CiPA, public domain).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from cardiotwin.ionic._base import AbstractIonicModel, replaced
from cardiotwin.ionic.pacing import Recording

Model = TypeVar("Model", bound=AbstractIonicModel)


class PoreBlock(NamedTuple):
    """Block of one channel.

    Attributes:
        ic50: free concentration that blocks half, nM.
        hill: Hill coefficient.
    """

    ic50: float
    hill: float = 1.0


class Binding(NamedTuple):
    """Dynamic binding to the states of the hERG channel (Li et al. 2017), in their symbols.

    Attributes:
        K_max: largest rate of binding over K_u.
        K_u: rate of unbinding, 1/ms.
        n: Hill coefficient.
        halfmax: concentration to the power n that binds half as fast, nM^n.
        V_half: potential of half trapping, mV.
    """

    K_max: float
    K_u: float
    n: float
    halfmax: float
    V_half: float


class Drug(NamedTuple):
    """A drug.

    Attributes:
        name: of the drug.
        therapeutic: free therapeutic concentration, nM.
        blocks: channel ("I_Kr", ...) to its pore block.
        binding: dynamic binding to hERG, for models with drug-bound states; None where unknown.
        risk: class of torsade risk in CiPA: "high", "intermediate" or "low"; None where unknown.
    """

    name: str
    therapeutic: float
    blocks: Mapping[str, PoreBlock]
    binding: Binding | None = None
    risk: str | None = None


# Parameters of a model with dynamic binding, beside the concentration D.
BINDING_PARAMETERS = Binding._fields
# Currents whose integral is the net charge of CiPA.
NET_CHARGE = ("I_NaL", "I_CaL", "I_Kr", "I_Ks", "I_K1", "I_to")

_CHANNELS = ("I_CaL", "I_K1", "I_Ks", "I_Na", "I_NaL", "I_to", "I_Kr")
_NONE = (np.nan, np.nan)
# (therapeutic nM, risk), (IC50 nM, Hill) in the order of _CHANNELS, binding.
_CIPA: dict[str, tuple[tuple[float, str], tuple[tuple[float, float], ...], tuple[float, ...]]] = {
    "bepridil": (
        (33.0, "high"),
        ((2808.0, 0.6486), _NONE, (28630.0, 0.7061), (2929.0, 1.164), (1814.0, 1.416),
         (8594.0, 3.541), (51.34, 0.9293)),
        (5594000.0, 0.0001719, 0.9374, 147200000.0, -61.34),
    ),
    "chlorpromazine": (
        (38.0, "intermediate"),
        ((8192.0, 0.8441), (9270.0, 0.6878), _NONE, (4536.0, 1.995), (4560.0, 0.9379),
         (17620000.0, 0.3654), (975.2, 0.8281)),
        (157900.0, 0.04671, 0.8871, 43510000.0, -14.45),
    ),
    "cisapride": (
        (2.6, "intermediate"),
        ((9267000.0, 0.4261), (29480.0, 0.5133), (81170000.0, 0.2921), _NONE, _NONE,
         (219100.0, 0.243), (11.27, 0.621)),
        (10.22, 0.0004161, 0.9615, 42.32, -167.4),
    ),
    "diltiazem": (
        (122.0, "low"),
        ((112.1, 0.7142), _NONE, _NONE, (110900.0, 0.7022), (21870.0, 0.6779),
         (2.822e9, 0.1696), (13140.0, 0.9119)),
        (182500.0, 0.282, 0.9382, 667700000.0, -90.65),
    ),
    "dofetilide": (
        (2.0, "high"),
        ((260.3, 1.163), (394.4, 0.765), _NONE, (380.5, 0.892), (753100.0, 0.2597),
         (18.82, 0.7712), (6.125, 1.079)),
        (35.1, 1.816e-05, 1.08, 216.6, -1.0),
    ),
    "mexiletine": (
        (4129.0, "low"),
        ((38240.0, 1.031), _NONE, _NONE, _NONE, (8957.0, 1.409), _NONE, (29070.0, 0.8928)),
        (15.0, 0.07114, 1.139, 723000.0, -87.51),
    ),
    "ondansetron": (
        (139.0, "intermediate"),
        ((22550.0, 0.7526), _NONE, (569800.0, 0.6535), (57670.0, 1.02), (19180.0, 1.035),
         (1023000.0, 0.9891), (1325.0, 0.921)),
        (172000.0, 0.02324, 0.891, 52240000.0, -82.2),
    ),
    "quinidine": (
        (3237.0, "high"),
        ((51590.0, 0.5892), (39590000.0, 0.3468), (4899.0, 1.363), (12330.0, 1.494),
         (9417.0, 1.337), (3487.0, 1.282), (986.3, 0.8404)),
        (275.7, 0.004103, 0.8488, 53830.0, -61.35),
    ),
    "ranolazine": (
        (1948.2, "low"),
        (_NONE, _NONE, (36160000.0, 0.5191), (68770.0, 1.425), (7884.0, 0.945), _NONE,
         (8208.0, 0.8576)),
        (52.84, 0.02035, 0.9532, 143000.0, -94.99),
    ),
    "sotalol": (
        (14690.0, "high"),
        ((7062000.0, 0.8651), (3050000.0, 1.204), (4222000.0, 1.167), (1.144e9, 0.5089), _NONE,
         (43140000.0, 0.6632), (107100.0, 0.785)),
        (96190.0, 0.02225, 0.7513, 385600000.0, -51.5),
    ),
    "terfenadine": (
        (4.0, "intermediate"),
        ((700.4, 0.6601), _NONE, (399800.0, 0.543), (4803.0, 1.015), (20060.0, 0.6011),
         (240000.0, 0.2559), (20.4, 0.6118)),
        (102200.0, 7.788e-05, 0.6502, 409500.0, -81.63),
    ),
    "verapamil": (
        (81.0, "low"),
        ((201.8, 1.097), (348800000.0, 0.2728), _NONE, _NONE, (7028.0, 1.031),
         (13430.0, 0.8222), (295.6, 0.9378)),
        (1694000.0, 0.0008165, 1.043, 335600000.0, -97.08),
    ),
}  # fmt: skip

DRUGS: Mapping[str, Drug] = {
    name: Drug(
        name,
        therapeutic,
        {
            channel: PoreBlock(*block)
            for channel, block in zip(_CHANNELS, blocks, strict=True)
            if np.isfinite(block[0])
        },
        Binding(*binding),
        risk,
    )
    for name, ((therapeutic, risk), blocks, binding) in _CIPA.items()
}
"""The twelve training drugs of CiPA by name."""


def drug_named(name: str) -> Drug:
    """One of `DRUGS`.

    Raises:
        ValueError: there is no such drug.
    """
    if name.lower() not in DRUGS:
        raise ValueError(
            f"there is no drug {name!r} in the table; it has {', '.join(DRUGS)}. Make others with "
            "Drug(name, therapeutic, {'I_Kr': PoreBlock(ic50, hill), ...})."
        )
    return DRUGS[name.lower()]


def remaining(block: PoreBlock, concentration: ArrayLike) -> Any:
    """Share of the conductance that a pore block leaves at a free concentration (nM)."""
    return 1.0 / (1.0 + (np.asarray(concentration) / block.ic50) ** block.hill)


def with_drug(
    model: Model,
    drug: Drug | str,
    multiple: float | Float[np.ndarray, " cells"] = 1.0,
    *,
    concentration: float | Float[np.ndarray, " cells"] | None = None,
    dynamic: bool | None = None,
    ignore: tuple[str, ...] = (),
) -> Model:
    """A cell under a drug.

    Args:
        model: an ionic model that names its `channels`.
        drug: a `Drug`, or a name in `DRUGS`.
        multiple: concentration in multiples of the therapeutic one; an array makes a batch.
        concentration: free concentration, nM, in place of `multiple`.
        dynamic: whether I_Kr is blocked by dynamic binding instead of a pore block; where the
            model and the drug have it when left out.
        ignore: channels that the drug blocks and the model does not have, to be passed over.

    Returns:
        The model with smaller conductances, and the concentration and binding constants set.

    Raises:
        ValueError: no such drug, a negative concentration, a channel that the model does not
            have, an IC50 or Hill coefficient that is not positive, or dynamic binding that the
            model or the drug does not have.
    """
    drug = drug_named(drug) if isinstance(drug, str) else drug
    at = np.asarray(multiple, float) * drug.therapeutic if concentration is None else concentration
    at = np.asarray(at, float)
    _check_drug(model, drug, at, ignore)
    able = drug.binding is not None and {"D", *BINDING_PARAMETERS} <= _names(model)
    dynamic = able if dynamic is None else dynamic
    if dynamic and not able:
        raise ValueError(
            f"with_drug: dynamic binding of {drug.name} needs binding constants of the drug and a "
            f"model with drug-bound states, such as OHaraRudyCiPA; {type(model).__name__} "
            f"{'has them' if drug.binding is None else 'has none'}. Leave `dynamic` out for a "
            "pore block."
        )
    changed = {}
    for channel, block in drug.blocks.items():
        if channel in model.channels and not (dynamic and channel == "I_Kr"):
            name = model.channels[channel]
            left = remaining(block, at)
            changed[name] = changed.get(name, getattr(model, name)) * (
                left if left.ndim else float(left)
            )
    if dynamic:
        assert drug.binding is not None
        changed |= {"D": at if at.ndim else float(at), **drug.binding._asdict()}
    return replaced(model, changed)


def net_charge(recording: Recording) -> Float[np.ndarray, "*cells"]:
    """The net charge qNet of one beat, uC/uF (Dutta et al. 2017, 10.3389/fphys.2017.00616).

    Args:
        recording: of one beat, with currents.

    Raises:
        ValueError: a current of the charge is not recorded.
    """
    missing = [name for name in NET_CHARGE if name not in recording.currents]
    if missing:
        raise ValueError(
            f"net_charge needs the currents {', '.join(NET_CHARGE)}; the recording lacks "
            f"{', '.join(missing)}. Record with currents=True, a model of the O'Hara-Rudy family."
        )
    total = np.sum([recording.currents[name] for name in NET_CHARGE], axis=0)
    return np.asarray(1e-3 * np.trapezoid(total, recording.t, axis=0))  # pA/pF ms = 1e-3 uC/uF


def _check_drug(
    model: AbstractIonicModel, drug: Drug, at: np.ndarray, ignore: tuple[str, ...]
) -> None:
    if not (np.isfinite(at).all() and (at >= 0).all()):
        raise ValueError(f"with_drug: the concentration of {drug.name} is {at} nM; give 0 or more.")
    for channel, block in drug.blocks.items():
        if not (block.ic50 > 0 and block.hill > 0):
            raise ValueError(
                f"with_drug: {drug.name} blocks {channel} with IC50 {block.ic50} nM and Hill "
                f"coefficient {block.hill}; both must be positive."
            )
    missing = [c for c in drug.blocks if c not in model.channels and c not in ignore]
    if missing:
        have = ", ".join(model.channels) or "none"
        raise ValueError(
            f"with_drug: {drug.name} blocks {', '.join(missing)}, which {type(model).__name__} "
            f"does not name (it names {have}). Take a model that has the channel, or pass "
            f"ignore={tuple(missing)} to leave this part of the drug out."
        )


def _names(model: AbstractIonicModel) -> set[str]:
    return {row.name for row in model.parameters()}
