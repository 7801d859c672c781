"""How fibres come about on a mesh that is not known yet."""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from cardiotwin._types import Degrees
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
from cardiotwin.anatomy.fibres import (
    Fibres,
    fibres_by_rule,
    fibres_from_mesh,
    mean_fibres,
    uniform_fibres,
)
from cardiotwin.anatomy.mesh import STANDARD_SURFACES
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
        if isinstance(anatomy.mesh, Voxels):
            return mean_fibres(found, TETRAHEDRA_PER_VOXEL)
        return found

    def prescribed(self, anatomy: Anatomy) -> Prescription:
        """The angles that the rule asks for in every element (tetrahedra, also of voxels)."""
        return prescription(self.rule, self._geometry(anatomy))

    def _geometry(self, anatomy: Anatomy) -> WallGeometry:
        valves = None if self.rule.outflow is None else anatomy.valves
        return wall_geometry(as_tetrahedra(anatomy.mesh), anatomy.fields, valves)


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
