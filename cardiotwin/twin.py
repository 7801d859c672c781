"""The twin: a heart with its fibres, tissue, cells and stimulus, ready to be solved.

The small classes here say how each part is made on a mesh that is not known yet; `Twin.assemble`
makes them all.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
import numpy as np

from cardiotwin._types import Degrees, Millimetres, Milliseconds
from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin._types import MillivoltsPerMillisecond as Rate
from cardiotwin.anatomy.coordinates import VentricularFields, ventricular_fields
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh, ldrb, mean_fibres, uniform_fibres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels, as_tetrahedra
from cardiotwin.ionic._base import AbstractIonicModel, blend
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
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.sites import (
    DURRER_SITES,
    EndocardialSite,
    endocardial_layer,
    sinus_rhythm,
)
from cardiotwin.tissue.stimulus import AbstractStimulus, check_radius, check_train

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

# Layers thinner than this share of the wall hold no cell.
THINNEST = 1e-6


class Anatomy:
    """A mesh, and its Laplace solutions when something asks for them."""

    def __init__(self, mesh: Mesh | Voxels):
        self.mesh = mesh
        self._fields: VentricularFields | None = None

    @property
    def fields(self) -> VentricularFields:
        """Laplace solutions between the named surfaces, solved once."""
        if self._fields is None:
            self._fields = ventricular_fields(as_tetrahedra(self.mesh))
        return self._fields


class RuleBasedFibres(eqx.Module):
    """Fibres by rule (LDRB, Bayer et al. 2012, doi 10.1007/s10439-012-0593-5).

    Args:
        alpha_endo: helix angle at the endocardium.
        alpha_epi: helix angle at the epicardium.
        beta_endo: sheet angle at the endocardium.
        beta_epi: sheet angle at the epicardium.
    """

    alpha_endo: float
    alpha_epi: float
    beta_endo: float
    beta_epi: float

    def __init__(
        self,
        alpha_endo: Degrees = 60.0,
        alpha_epi: Degrees = -60.0,
        beta_endo: Degrees = -20.0,
        beta_epi: Degrees = 20.0,
    ):
        self.alpha_endo, self.alpha_epi = alpha_endo, alpha_epi
        self.beta_endo, self.beta_epi = beta_endo, beta_epi

    def on(self, anatomy: Anatomy) -> Fibres:
        """Build the fibres of a heart."""
        found = ldrb(
            as_tetrahedra(anatomy.mesh),
            alpha_endo=self.alpha_endo,
            alpha_epi=self.alpha_epi,
            beta_endo=self.beta_endo,
            beta_epi=self.beta_epi,
            fields=anatomy.fields,
        )
        if isinstance(anatomy.mesh, Voxels):
            return mean_fibres(found, TETRAHEDRA_PER_VOXEL)
        return found


class MeshFibres(eqx.Module):
    """The fibres that came with the mesh."""

    def on(self, anatomy: Anatomy) -> Fibres:
        """Take the fibres from the mesh's cell data."""
        return fibres_from_mesh(anatomy.mesh)


class UniformFibres(eqx.Module):
    """One direction everywhere, for blocks and for tissue that conducts alike in all directions.

    Args:
        fibre: direction, of any length but zero.
        sheet: direction across it; any that is perpendicular when left out.
    """

    fibre: tuple[float, float, float]
    sheet: tuple[float, float, float] | None

    def __init__(
        self,
        fibre: tuple[float, float, float] = (1.0, 0.0, 0.0),
        sheet: tuple[float, float, float] | None = None,
    ):
        uniform_fibres(1, fibre, sheet)  # refuse what is no frame now
        self.fibre, self.sheet = fibre, sheet

    def on(self, anatomy: Anatomy) -> Fibres:
        """The same frame in every element."""
        return uniform_fibres(len(anatomy.mesh.cells), self.fibre, self.sheet)


AnyFibres = RuleBasedFibres | MeshFibres | UniformFibres


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
    """

    model: str = eqx.field(static=True)
    uniform: str | None = eqx.field(static=True)
    endo: float
    mid: float
    width: float
    parameters: dict[str, float]
    apex_to_base: dict[str, tuple[float, float]]
    endo_to_epi: dict[str, tuple[float, float]]

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
        names = [row.name for row in chosen.parameters()]
        for name in (*self.parameters, *self.apex_to_base, *self.endo_to_epi):
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
        ):
            for name, (low, high) in factors.items():
                where = np.clip(getattr(anatomy.fields, position), 0.0, 1.0)
                value = np.asarray(getattr(cell, name)) * (low + (high - low) * where)
                cell = eqx.tree_at(lambda c, name=name: getattr(c, name), cell, value)
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


class FastEndocardium(eqx.Module):
    """A thin layer on the endocardium that conducts fast, in place of the Purkinje network.

    Args:
        velocity: of a plane wave in tissue like the layer's, in every direction; over slow
            tissue the thin layer carries the wave at about three quarters of it.
        thickness: elements whose centroid is nearer to the endocardium belong to the layer, as
            do all that touch it.
        up_to: apicobasal coordinate (0 apex, 1 base) where the layer ends.
    """

    velocity: float
    thickness: float
    up_to: float

    def __init__(
        self,
        velocity: Velocity = 2.2,
        thickness: Millimetres = 0.5,
        up_to: float = 1.0,
    ):
        if not (velocity > 0 and thickness >= 0 and 0 < up_to <= 1):
            raise ValueError(
                f"FastEndocardium: velocity {velocity} m/s and thickness {thickness} mm must be "
                f"positive, and up_to ({up_to}) between 0 and 1."
            )
        self.velocity, self.thickness, self.up_to = velocity, thickness, up_to


class Myocardium(eqx.Module):
    """Conductivities, membrane and target velocities of the tissue.

    Args:
        conductivity: by region name; "default" covers the rest. Those of the N-version benchmark
            when left out.
        chi: membrane area per volume.
        c_m: membrane capacitance.
        velocity: target velocities along fibre, sheet and normal; None leaves the conductivities
            as they are, whatever velocity the mesh makes of them.
        endocardium: fast layer; None for none. It needs `velocity`.
    """

    conductivity: dict[str, Conductivity]
    chi: float
    c_m: float
    velocity: VelocityTarget | None
    endocardium: FastEndocardium | None

    def __init__(
        self,
        conductivity: Mapping[str, Conductivity] | None = None,
        chi: Annotated[float, "1/mm"] = 140.0,
        c_m: Annotated[float, "uF/mm^2"] = 0.01,
        velocity: Sequence[Velocity] | None = (0.6, 0.3, 0.3),
        endocardium: FastEndocardium | None = None,
    ):
        self.conductivity = dict(conductivity or {"default": Conductivity()})
        self.chi, self.c_m = chi, c_m
        fits = velocity is None or (
            len(velocity) == 3 and all(np.isfinite(v) and v > 0 for v in velocity)
        )
        if not fits:
            raise ValueError(
                f"Myocardium: velocity is {velocity}; give three velocities in m/s, all positive, "
                "along fibre, sheet and normal, or null for untuned conductivities."
            )
        if velocity is None and endocardium is not None:
            raise ValueError(
                "Myocardium: a fast endocardium is tuned to its velocity, but velocity is null. "
                "Give target velocities, or leave the layer out."
            )
        self.velocity = None if velocity is None else VelocityTarget(*map(float, velocity))
        self.endocardium = endocardium

    def on(self, anatomy: Anatomy, fibres: Fibres) -> Tissue:
        """Lay the conductivities out over a mesh, untuned."""
        return Tissue.by_region(anatomy.mesh, fibres, self.conductivity, chi=self.chi, c_m=self.c_m)

    def layers(self, anatomy: Anatomy) -> dict[str, tuple[np.ndarray, VelocityTarget]]:
        """Masks [elements] and target velocities, the later ones on top."""
        if self.velocity is None:
            return {}
        everywhere = np.ones(len(anatomy.mesh.cells), bool)
        layers = {"myocardium": (everywhere, self.velocity)}
        if self.endocardium is not None:
            fast = endocardial_layer(
                anatomy.mesh,
                anatomy.fields,
                thickness=self.endocardium.thickness,
                up_to=self.endocardium.up_to,
            )
            layers["endocardium"] = (fast, VelocityTarget(*[self.endocardium.velocity] * 3))
        return layers


class SinusRhythm(eqx.Module):
    """Sinus-like activation from root nodes on the endocardium; see `sinus_rhythm`.

    Args:
        sites: root nodes; those of Durrer et al. 1970 when left out.
        radius: nodes of the inner half of the wall this near to a site are stimulated.
        delay: added to every onset, so that the beat starts after a stretch of rest.
        amplitude: of the stimulus.
        duration: of the stimulus.
        period: cycle length.
        count: number of beats.
    """

    sites: tuple[EndocardialSite, ...]
    radius: float
    delay: float
    amplitude: float
    duration: float
    period: float
    count: int = eqx.field(static=True)

    def __init__(
        self,
        sites: Sequence[EndocardialSite] | None = None,
        radius: Millimetres = 4.0,
        delay: Milliseconds = 0.0,
        amplitude: Rate = 50.0,
        duration: Milliseconds = 3.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.sites = tuple(DURRER_SITES if sites is None else sites)
        if not self.sites:
            raise ValueError("SinusRhythm: no sites; give at least one root node.")
        self.radius, self.delay, self.amplitude = radius, delay, amplitude
        self.duration, self.period, self.count = duration, period, count
        check_radius(self)
        check_train(self, [site.onset + delay for site in self.sites])

    def on(self, anatomy: Anatomy) -> AbstractStimulus:
        """Place the root nodes on a heart."""
        return sinus_rhythm(
            anatomy.mesh,
            anatomy.fields,
            sites=self.sites,
            radius=self.radius,
            delay=self.delay,
            amplitude=self.amplitude,
            duration=self.duration,
            period=self.period,
            count=self.count,
        )


class Twin(NamedTuple):
    """A heart that can be solved.

    Attributes:
        anatomy: the mesh, with its Laplace solutions where they were needed.
        tissue: fibres and conductivities.
        cell: the ionic model, with parameters per node where they vary.
        stimulus: what excites it.
    """

    anatomy: Anatomy
    tissue: Tissue
    cell: AbstractIonicModel
    stimulus: AbstractStimulus

    @property
    def mesh(self) -> Mesh | Voxels:
        """The heart's mesh."""
        return self.anatomy.mesh

    @classmethod
    def assemble(
        cls,
        mesh: Mesh | Voxels,
        *,
        fibres: AnyFibres | None = None,
        myocardium: Myocardium | None = None,
        cells: Cells | None = None,
        stimulus: SinusRhythm | AbstractStimulus | None = None,
    ) -> "Twin":
        """Make every part on a mesh; the parts left out take their defaults.

        Raises:
            ValueError: a part does not fit the mesh, such as rules without labelled surfaces or a
                stimulus that reaches no node.
        """
        anatomy = Anatomy(mesh)
        frame = (fibres or RuleBasedFibres()).on(anatomy)
        stimulus = SinusRhythm() if stimulus is None else stimulus
        placed = stimulus.on(anatomy) if isinstance(stimulus, SinusRhythm) else stimulus
        placed.pulses(mesh.points)  # one that misses the tissue is refused now, not after tuning
        return cls(
            anatomy=anatomy,
            tissue=(myocardium or Myocardium()).on(anatomy, frame),
            cell=(cells or Cells()).on(anatomy),
            stimulus=placed,
        )

    def problem(self) -> Monodomain:
        """The monodomain problem of this heart."""
        return Monodomain(self.mesh, self.tissue, self.cell, self.stimulus)


def _beyond(depth: np.ndarray, edge: float, width: float) -> np.ndarray:
    """Share of the cells beyond the edge of a layer: a ramp that narrows to fit into the wall."""
    if not THINNEST < edge < 1.0 - THINNEST:
        return np.full_like(depth, edge <= THINNEST)
    half = min(0.5 * width, edge, 1.0 - edge)
    return np.clip(0.5 * (depth - edge) / half + 0.5, 0.0, 1.0)


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
