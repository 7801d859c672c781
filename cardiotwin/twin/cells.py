"""Which cells a heart has, and where."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import numpy as np

from cardiotwin.ionic._base import AbstractIonicModel, blend, replaced
from cardiotwin.ionic.aliev_panfilov import AlievPanfilov
from cardiotwin.ionic.beeler_reuter_1977 import BeelerReuter1977
from cardiotwin.ionic.bueno_orovio import BuenoOrovio
from cardiotwin.ionic.courtemanche_1998 import Courtemanche1998
from cardiotwin.ionic.fenton_karma import FentonKarma
from cardiotwin.ionic.fitzhugh_nagumo import FitzHughNagumo
from cardiotwin.ionic.luo_rudy_1991 import LuoRudy1991
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer
from cardiotwin.ionic.modified_mitchell_schaeffer import ModifiedMitchellSchaeffer
from cardiotwin.ionic.ohara_rudy_2011 import OHaraRudy2011
from cardiotwin.ionic.ohara_rudy_cipa import OHaraRudyCiPA
from cardiotwin.ionic.stewart_2009 import Stewart2009
from cardiotwin.ionic.ten_tusscher_2006 import TenTusscherPanfilov2006
from cardiotwin.ionic.ten_tusscher_restitution import TenTusscherRestitution
from cardiotwin.ionic.tor_ord import ToRORdDynCl
from cardiotwin.tissue.substrate import remodelled

from .anatomy import Anatomy
from .zones import CellZone

# Layers thinner than this share of the wall hold no cell.
THINNEST = 1e-6

MODELS: dict[str, type[AbstractIonicModel]] = {
    "aliev_panfilov": AlievPanfilov,
    "beeler_reuter_1977": BeelerReuter1977,
    "bueno_orovio": BuenoOrovio,
    "courtemanche_1998": Courtemanche1998,
    "fenton_karma": FentonKarma,
    "fitzhugh_nagumo": FitzHughNagumo,
    "luo_rudy_1991": LuoRudy1991,
    "mitchell_schaeffer": MitchellSchaeffer,
    "modified_mitchell_schaeffer": ModifiedMitchellSchaeffer,
    "ohara_rudy_2011": OHaraRudy2011,
    "ohara_rudy_cipa": OHaraRudyCiPA,
    "stewart_2009": Stewart2009,
    "ten_tusscher_2006": TenTusscherPanfilov2006,
    "ten_tusscher_restitution": TenTusscherRestitution,
    "tor_ord": ToRORdDynCl,
}


class Cells(eqx.Module):
    """Which ionic model, and which cell types where.

    A uniform tissue, or layers of endocardial, mid-myocardial and epicardial cells across the
    wall. Maximal conductances may vary from apex to base and from endocardium to epicardium: such
    gradients of repolarisation make the T wave.

    Args:
        model: name of an ionic model, one of the keys of `MODELS`; or the path of a file with one
            (.cellml, .mmt, .ode; see `read_cell_model`).
        uniform: one cell type everywhere ("endo", "mid", "epi"); None for layers.
        endo: share of the wall that holds endocardial cells.
        mid: share that holds mid-myocardial cells; epicardial cells take the rest.
        width: of the transition between layers, as a share of the wall; narrower near its ends.
        parameters: values for every cell, by the model's own names.
        apex_to_base: factors at apex and base, by parameter, linear between.
        endo_to_epi: factors at endocardium and epicardium, by parameter, linear between.
        lv_to_rv: factors in the left and the right free wall, by parameter, linear through the
            septum.
        zones: regions whose parameters are multiplied, one after the other.
        border_zone: factors in the border zone of a scar, by parameter, such as g_Na 0.38, g_CaL
            0.31, g_Kr 0.3 and g_Ks 0.2 (Arevalo et al. 2016,
            https://doi.org/10.1038/ncomms11437); where it holds a share of the volume, so much.
    """

    model: str = eqx.field(static=True)
    uniform: str | None = eqx.field(static=True)
    endo: float
    mid: float
    width: float
    parameters: dict[str, float]
    apex_to_base: dict[str, tuple[float, float]]
    endo_to_epi: dict[str, tuple[float, float]]
    border_zone: dict[str, float]
    lv_to_rv: dict[str, tuple[float, float]]
    zones: tuple[CellZone, ...]

    def __init__(
        self,
        model: Literal[
            "aliev_panfilov",
            "beeler_reuter_1977",
            "bueno_orovio",
            "courtemanche_1998",
            "fenton_karma",
            "fitzhugh_nagumo",
            "luo_rudy_1991",
            "mitchell_schaeffer",
            "modified_mitchell_schaeffer",
            "ohara_rudy_2011",
            "ohara_rudy_cipa",
            "stewart_2009",
            "ten_tusscher_2006",
            "ten_tusscher_restitution",
            "tor_ord",
        ]
        | Path = "ten_tusscher_2006",
        uniform: Literal["endo", "mid", "epi"] | None = None,
        endo: float = 0.45,
        mid: float = 0.25,
        width: float = 0.1,
        parameters: Mapping[str, float] | None = None,
        apex_to_base: Mapping[str, Sequence[float]] | None = None,
        endo_to_epi: Mapping[str, Sequence[float]] | None = None,
        border_zone: Mapping[str, float] | None = None,
        lv_to_rv: Mapping[str, Sequence[float]] | None = None,
        zones: Sequence[CellZone] | None = None,
    ):
        chosen = _model_class(str(model))
        if not (endo >= 0 and mid >= 0 and endo + mid <= 1 and 0 < width <= 1):
            raise ValueError(
                f"Cells: layers endo={endo}, mid={mid}, width={width}: shares of the wall between "
                "0 and 1, endo and mid at most 1 together, and a positive width."
            )
        self.model, self.uniform = str(model), uniform
        self.endo, self.mid, self.width = endo, mid, width
        self.parameters = dict(parameters or {})
        self.apex_to_base = _factor_pairs("apex_to_base", apex_to_base)
        self.endo_to_epi = _factor_pairs("endo_to_epi", endo_to_epi)
        self.border_zone = _factors("border_zone", border_zone)
        self.lv_to_rv = _factor_pairs("lv_to_rv", lv_to_rv)
        self.zones = tuple(zones or ())
        names = [row.name for row in chosen.parameters()]
        gradients = (self.apex_to_base, self.endo_to_epi, self.lv_to_rv, self.border_zone)
        varied = [name for each in gradients for name in each]
        varied += [name for zone in self.zones for name in zone.factors]
        for name in (*self.parameters, *varied):
            if name not in names:
                raise ValueError(
                    f"Cells: {model} has no parameter {name!r}; it has {', '.join(names)}."
                )

    def reference(self) -> AbstractIonicModel:
        """The cell with scalar parameters whose conduction velocity is tuned."""
        return self._of_type(self.uniform or "epi")

    def on(self, anatomy: Anatomy) -> AbstractIonicModel:
        """Lay the cells out over a heart: parameters per node where they vary."""
        cell = self.reference() if self.uniform or not self._typed() else self._layers(anatomy)
        for position, factors in (
            ("apicobasal", self.apex_to_base),
            ("transmural", self.endo_to_epi),
            ("interventricular", {k: pair[::-1] for k, pair in self.lv_to_rv.items()}),
        ):
            for name, (low, high) in factors.items():
                where = np.clip(getattr(anatomy.fields, position), 0.0, 1.0)
                value = np.asarray(getattr(cell, name)) * (low + (high - low) * where)
                cell = replaced(cell, {name: value})
        for zone in self.zones:
            here = zone.region.nodes(anatomy.map)
            for name, factor in zone.factors.items():
                value = np.asarray(getattr(cell, name)) * np.where(here, factor, 1.0)
                cell = replaced(cell, {name: value})
        if self.border_zone:
            for name, factor in remodelled(anatomy.mesh, self.border_zone).items():
                cell = replaced(cell, {name: np.asarray(getattr(cell, name)) * factor})
        return cell

    def _typed(self) -> bool:
        return hasattr(_model_class(self.model), "epi")

    def _of_type(self, kind: str) -> AbstractIonicModel:
        model = _model_class(self.model)
        if not self._typed():
            return model(**self.parameters)
        return getattr(model, kind)(**self.parameters)

    def _layers(self, anatomy: Anatomy) -> AbstractIonicModel:
        depth = np.clip(anatomy.fields.transmural, 0.0, 1.0)
        beyond_endo = _beyond(depth, self.endo, self.width)
        beyond_mid = _beyond(depth, self.endo + self.mid, self.width)
        weights = np.stack([1.0 - beyond_endo, beyond_endo - beyond_mid, beyond_mid])
        return blend([self._of_type(kind) for kind in ("endo", "mid", "epi")], weights)


def _model_class(name: str) -> type[AbstractIonicModel]:
    """The class of a model by its name, or by the path of the file that holds it."""
    if name in MODELS:
        return MODELS[name]
    from cardiotwin.ionic.imported import cell_model_class, is_cell_file

    if is_cell_file(name):
        return cell_model_class(name)
    near = difflib.get_close_matches(name, MODELS, n=1)
    raise ValueError(
        f"Cells: there is no model {name!r}; give one of {sorted(MODELS)}, or the path of a file "
        f"(.cellml, .mmt, .ode){f'; did you mean {near[0]!r}?' if near else '.'}"
    )


def _beyond(depth: np.ndarray, edge: float, width: float) -> np.ndarray:
    """Share of the cells beyond the edge of a layer: a ramp that narrows to fit into the wall."""
    if not THINNEST < edge < 1.0 - THINNEST:
        return np.full_like(depth, edge <= THINNEST)
    half = min(0.5 * width, edge, 1.0 - edge)
    return np.clip(0.5 * (depth - edge) / half + 0.5, 0.0, 1.0)


def _factors(name: str, factors: Mapping[str, float] | None) -> dict[str, float]:
    for parameter, factor in (factors or {}).items():
        if not (np.isfinite(factor) and factor >= 0):
            raise ValueError(
                f"Cells: {name}.{parameter} is {factor!r}; give a factor, such as 0.4."
            )
    return {parameter: float(factor) for parameter, factor in (factors or {}).items()}


def _factor_pairs(name: str, pairs: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    result = {}
    for parameter, factors in (pairs or {}).items():
        if len(factors) != 2 or not all(np.isfinite(f) and f >= 0 for f in factors):
            raise ValueError(
                f"Cells: {name}.{parameter} is {factors!r}; give two factors that are not "
                "negative, such as [0.5, 1.0]."
            )
        result[parameter] = (float(factors[0]), float(factors[1]))
    return result
