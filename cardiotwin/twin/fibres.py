"""How fibres come about on a mesh that is not known yet."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import equinox as eqx
import numpy as np

from cardiotwin._types import Degrees, Millimetres
from cardiotwin.anatomy._fibre_files import read_directions
from cardiotwin.anatomy.atrial_fibres import AtrialRule
from cardiotwin.anatomy.fibre_profile import AngleProfile, angle_profiles
from cardiotwin.anatomy.fibre_rules import (
    FibreRule,
    Prescription,
    SeptumAngles,
    WallAngles,
    WallGeometry,
    prescription,
    wall_geometry,
)
from cardiotwin.anatomy.fibre_transfer import (
    FibreSamples,
    check_smoothing,
    fibres_at,
    fibres_of_heart,
)
from cardiotwin.anatomy.fibres import (
    Fibres,
    fibres_by_rule,
    fibres_from_mesh,
    mean_fibres,
    uniform_fibres,
)
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels, as_tetrahedra

from .anatomy import Anatomy

if TYPE_CHECKING:
    from .assembly import Twin


class RuleBasedFibres(eqx.Module):
    """Fibres by rule (LDRB, Bayer et al. 2012, doi 10.1007/s10439-012-0593-5).

    Args:
        alpha_endo: helix angle at the endocardium.
        alpha_epi: helix angle at the epicardium.
        beta_endo: sheet angle at the endocardium.
        beta_epi: sheet angle at the epicardium.
        rv: angles of the right ventricle; those above when left out.
        septum: angles of both sides of the septum; those of the endocardia when left out.
        outflow: angles at the aortic and the pulmonary valve (Doste et al. 2019, doi
            10.1002/cnm.3185), for meshes with the four valves as surfaces; None for none.
        left_share: depth in the septum, from left to right, at which the angles pass through zero.
    """

    rule: FibreRule

    def __init__(
        self,
        alpha_endo: Degrees = 60.0,
        alpha_epi: Degrees = -60.0,
        beta_endo: Degrees = -20.0,
        beta_epi: Degrees = 20.0,
        rv: WallAngles | None = None,
        septum: SeptumAngles | None = None,
        outflow: WallAngles | None = None,
        left_share: float = 0.5,
    ):
        lv = WallAngles(alpha_endo, alpha_epi, beta_endo, beta_epi)
        self.rule = FibreRule(lv, rv, septum, outflow, left_share)

    def on(self, anatomy: Anatomy) -> Fibres:
        """Build the fibres of a heart."""
        mesh = as_tetrahedra(anatomy.mesh)
        found = fibres_by_rule(mesh, self.rule, self._geometry(anatomy))
        return _of_elements(anatomy, found)

    def prescribed(self, anatomy: Anatomy) -> Prescription:
        """The angles that the rule asks for in every element (tetrahedra, also of voxels)."""
        return prescription(self.rule, self._geometry(anatomy))

    def _geometry(self, anatomy: Anatomy) -> WallGeometry:
        valves = None if self.rule.outflow is None else anatomy.valves
        return wall_geometry(as_tetrahedra(anatomy.mesh), anatomy.fields, valves)


class MeshFibres(eqx.Module):
    """The fibres that came with the mesh, or are kept in the twin folder."""

    def on(self, anatomy: Anatomy) -> Fibres:
        """Take the fibres that were kept, bit by bit, or else those of the mesh's cell data."""
        if anatomy.fibres is not None:
            return anatomy.fibres
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


class FibresFromFile(eqx.Module):
    """Directions that lie in a file of their own, in the coordinates of the heart.

    The file's points need not be those of the mesh: DT-MRI, another resolution. Directions are
    interpolated whatever sign they carry.

    Args:
        path: a mesh, or points alone, with a vector field "fibre" and perhaps "sheet".
        unit: of its coordinates: "um", "mm", "cm" or "m"; mm when left out.
        tolerance: how far an element may lie from the nearest sample; twice the spacing of the
            samples or of the mesh when left out.
        smoothing: standard deviation of a Gaussian that averages noisy samples.
    """

    path: str
    unit: str | None
    tolerance: float | None
    smoothing: float

    def __init__(
        self,
        path: str,
        unit: Literal["um", "mm", "cm", "m"] | None = None,
        tolerance: Millimetres | None = None,
        smoothing: Millimetres = 0.0,
    ):
        check_smoothing(smoothing)
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance is {tolerance} mm; give a positive distance, or null.")
        self.path, self.unit = str(path), unit
        self.tolerance, self.smoothing = tolerance, smoothing

    def on(self, anatomy: Anatomy) -> Fibres:
        """Read the file and interpolate."""
        samples = FibreSamples(*read_directions(Path(self.path), self.unit))
        places = as_tetrahedra(anatomy.mesh).centroids()
        found = fibres_at(samples, places, tolerance=self.tolerance, smoothing=self.smoothing)
        return _of_elements(anatomy, found)


class FibresFromHeart(eqx.Module):
    """Directions of another heart, carried over through ventricular coordinates.

    Args:
        heart: its mesh, with the surfaces of both ventricles and fibres.
        smoothing: standard deviation of a Gaussian that averages noisy directions.
    """

    heart: Mesh
    smoothing: float

    def __init__(self, heart: Mesh, smoothing: Millimetres = 0.0):
        check_smoothing(smoothing)
        fibres_from_mesh(heart)  # refuse one without directions now
        self.heart, self.smoothing = heart, smoothing

    def on(self, anatomy: Anatomy) -> Fibres:
        """Look up every element's place in the other heart."""
        source = VentricularMap(self.heart)
        return _of_elements(anatomy, fibres_of_heart(anatomy.map, source, smoothing=self.smoothing))


class AtrialRuleFibres(eqx.Module):
    """Fibres of both atria by rule (Piersanti et al. 2021, doi 10.1016/j.cma.2020.113468).

    Args:
        rule: where the bundles end; the published levels when left out.
        left_appendage: tip of the left appendage [x, y, z], where it has no opening.
        right_appendage: tip of the right appendage; found when left out.
    """

    rule: AtrialRule
    left_appendage: tuple[float, float, float] | None
    right_appendage: tuple[float, float, float] | None

    def __init__(
        self,
        rule: AtrialRule | None = None,
        left_appendage: tuple[Millimetres, Millimetres, Millimetres] | None = None,
        right_appendage: tuple[Millimetres, Millimetres, Millimetres] | None = None,
    ):
        self.rule = AtrialRule() if rule is None else rule
        self.left_appendage, self.right_appendage = left_appendage, right_appendage

    def on(self, anatomy: Anatomy) -> Fibres:
        """Build the fibres of both atria."""
        found = anatomy.atrial_fibres(
            self.rule, left_appendage=self.left_appendage, right_appendage=self.right_appendage
        )
        return _of_elements(anatomy, found.fibres)


AnyFibres = (
    RuleBasedFibres
    | AtrialRuleFibres
    | MeshFibres
    | UniformFibres
    | FibresFromFile
    | FibresFromHeart
)


def _of_elements(anatomy: Anatomy, found: Fibres) -> Fibres:
    """Directions of tetrahedra as those of the mesh's own elements."""
    if isinstance(anatomy.mesh, Voxels):
        return mean_fibres(found, TETRAHEDRA_PER_VOXEL)
    return found


def has_walls(twin: "Twin") -> bool:
    """Whether fibre angles can be told: there are surfaces, and a field that is not uniform."""
    named = set(STANDARD_SURFACES) <= set(twin.mesh.surfaces)
    fibre = np.asarray(twin.tissue.fibres.fibre)
    return named and bool((fibre != fibre[0]).any())


def wall_angles(twin: "Twin", origin: AnyFibres) -> dict[str, dict[str, AngleProfile]]:
    """Fibre angles across the walls of a heart, see `angle_profiles`.

    Args:
        twin: with the surfaces of both ventricles.
        origin: how its fibres came about; by a rule, they are compared with it.
    """
    mesh, fibres = as_tetrahedra(twin.mesh), twin.tissue.fibres
    if isinstance(twin.mesh, Voxels):
        fibres = fibres.repeated(TETRAHEDRA_PER_VOXEL)
    by_rule = isinstance(origin, RuleBasedFibres)
    wanted = origin.prescribed(twin.anatomy) if by_rule else None
    return angle_profiles(mesh, fibres, twin.anatomy.fields, wanted)
