"""How scar and border zone conduct, from their volume shares in every element."""

from collections.abc import Mapping
from dataclasses import replace

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.scar import BORDER, CORE
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.tissue.conductivity import Tissue


class ScarConduction(eqx.Module):
    """Conduction in dense scar and border zone, as factors on the healthy intracellular one.

    An element of shares c (core) and b (border zone) conducts along each axis with
    1 - c - b + b * border + c * core times the diffusivity of healthy tissue there, so a wave in
    pure border zone runs at the root of the factor. Dense scar is an insulator: its factor is small
    but not zero, since tensors stay positive. Its nodes keep their membrane; nothing reaches
    them, so they rest, and those on its edge load the wave that passes.

    The default is the structural remodelling of an old infarct: conduction across the fibres down
    by 90 % (Mendonca Costa et al. 2018, https://doi.org/10.3389/fphys.2018.00356). Ionic
    remodelling of the border zone is a matter of the cells (`Cells.border_zone`).

    Args:
        border_fibre: factor along the fibres in the border zone.
        border_cross: factor across the fibres in the border zone.
        core: factor in dense scar, in all directions.
    """

    border_fibre: float
    border_cross: float
    core: float

    def __init__(self, border_fibre: float = 1.0, border_cross: float = 0.1, core: float = 1e-4):
        for name, value in (
            ("border_fibre", border_fibre),
            ("border_cross", border_cross),
            ("core", core),
        ):
            if not 0.0 < value <= 1.0:
                raise ValueError(
                    f"ScarConduction: {name} is {value}; give a factor above 0 and at most 1."
                )
        self.border_fibre, self.border_cross = border_fibre, border_cross
        self.core = core

    def factors(self, mesh: Mesh | Voxels) -> Float[np.ndarray, "elements 3"]:
        """Factors on the diffusivity along fibre, sheet and normal.

        Raises:
            ValueError: the mesh has no shares of scar, or shares that are none.
        """
        core, border = scar_shares(mesh)
        inside = np.array([self.border_fibre, self.border_cross, self.border_cross])
        healthy = (1.0 - core - border)[:, None]
        return healthy + border[:, None] * inside + core[:, None] * self.core

    def on(self, mesh: Mesh | Voxels, tissue: Tissue) -> Tissue:
        """A tissue with scar in it; tune it to its velocities before, since scar has others.

        Args:
            mesh: with the cell data "scar" and "border_zone", or one of them.
            tissue: healthy.
        """
        factor = self.factors(mesh)
        inner, outer = tissue.intracellular, tissue.extracellular
        # the source of the ECG falls like the intracellular conductivity, the diffusivity with it
        harmonic = (inner + outer) / (factor * inner + outer)
        return replace(
            tissue, intracellular=factor * inner, tuning=tissue.tuning / np.asarray(harmonic)
        )


def scar_shares(
    mesh: Mesh | Voxels,
) -> tuple[Float[np.ndarray, " elements"], Float[np.ndarray, " elements"]]:
    """Shares of dense scar and of border zone in every element, that one missing zero.

    Raises:
        ValueError: the mesh has neither, or values that are no shares.
    """
    if not {CORE, BORDER} & mesh.cell_data.keys():
        have = ", ".join(repr(name) for name in mesh.cell_data) or "none"
        raise ValueError(
            f"the mesh has no shares of scar (cell data {CORE!r} or {BORDER!r}; it has: {have}): "
            "make them with `cardiotwin twin heart.vtu --scar lge.nii.gz`, or leave tissue.scar out"
        )
    none = np.zeros(len(mesh.cells))
    core, border = (np.asarray(mesh.cell_data.get(name, none), float) for name in (CORE, BORDER))
    slack = 1e-6
    for name, share in ((CORE, core), (BORDER, border), (f"{CORE} + {BORDER}", core + border)):
        if share.shape != none.shape or not np.all((share >= -slack) & (share <= 1.0 + slack)):
            raise ValueError(
                f"the cell data {name} runs from {np.min(share):.3g} to {np.max(share):.3g}; "
                "expected one share from 0 to 1 for each element"
            )
    core = np.clip(core, 0.0, 1.0)
    return core, np.clip(border, 0.0, 1.0 - core)


def at_nodes(mesh: Mesh | Voxels, share: np.ndarray) -> Float[np.ndarray, " nodes"]:
    """Shares of the elements as shares of the volume around each node."""
    corners = mesh.cells.shape[1]
    weight = np.repeat(mesh.volumes(), corners)
    nodes, count = mesh.cells.ravel(), len(mesh.points)
    return np.bincount(nodes, weight * np.repeat(share, corners), count) / np.bincount(
        nodes, weight, count
    )


def remodelled(
    mesh: Mesh | Voxels, factors: Mapping[str, float]
) -> dict[str, Float[np.ndarray, " nodes"]]:
    """Factors on ionic parameters at every node, 1 in healthy tissue.

    Args:
        mesh: with shares of the border zone.
        factors: in pure border zone, by parameter.
    """
    share = at_nodes(mesh, scar_shares(mesh)[1])
    return {name: 1.0 + share * (factor - 1.0) for name, factor in factors.items()}
