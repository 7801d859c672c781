"""How fibres come about on a mesh that is not known yet."""

import equinox as eqx

from cardiotwin._types import Degrees
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh, ldrb, mean_fibres, uniform_fibres
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels, as_tetrahedra

from .anatomy import Anatomy


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


AnyFibres = RuleBasedFibres | MeshFibres | UniformFibres
