"""The way to each valve: Laplace solutions that tell the outflow tracts from the ventricles."""

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cardiotwin.anatomy.cavity import named_surface
from cardiotwin.anatomy.coordinates import VentricularFields, apex_nodes, solve_shares
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.naming import VALVES
from cardiotwin.numerics.fem import stiffness_matrix

# Shares of the ventricles that are outflow tract: the subaortic region and the infundibulum.
_TRACT_LV, _TRACT_RV = 0.1, 0.2

PerNode = Float[np.ndarray, " nodes"]


class ValveFields(eqx.Module):
    """Solutions of Laplace's equation towards the four valves, each [nodes], from 0 to 1.

    After Doste et al. 2019, doi:10.1002/cnm.3185, with the weights of Piersanti et al. 2021,
    doi:10.1016/j.cma.2020.113468, confined: as they are, the aortic valve takes a third of the
    angles of the whole left ventricle (Rodero's heart), since the apex that holds against it is
    small. Here they reach 1 at the end of an outflow tract, which takes a tenth of the left
    ventricle and a fifth of the right one.

    Attributes:
        mitral: 0 at the apex, 1 on the mitral valve; `aortic`, `tricuspid` and `pulmonary` alike.
        aortic: left outflow.
        tricuspid: right inflow.
        pulmonary: right outflow.
        body_lv: 0 on the aortic valve, 1 from the end of the outflow tract on.
        body_rv: 0 on the pulmonary valve, 1 from the end of the outflow tract on.
    """

    mitral: PerNode
    aortic: PerNode
    tricuspid: PerNode
    pulmonary: PerNode
    body_lv: PerNode
    body_rv: PerNode

    @property
    def heights(self) -> tuple[PerNode, PerNode, PerNode, PerNode]:
        """Those from the apex to a valve: left inflow and outflow, right inflow and outflow."""
        return self.mitral, self.aortic, self.tricuspid, self.pulmonary


def valve_fields(mesh: Mesh, fields: VentricularFields) -> ValveFields:
    """Solve the Laplace problems of the four valves.

    Args:
        mesh: of both ventricles, with the surfaces "mitral", "aortic", "tricuspid" and "pulmonary"
            besides "epi" and "endo_lv".
        fields: `ventricular_fields(mesh)`.

    Raises:
        ValueError: a valve is missing; the message says how meshes come by them.
        RuntimeError: a solve did not converge.
    """
    missing = [name for name in VALVES if len(mesh.surfaces.get(name, ())) == 0]
    if missing:
        have = ", ".join(repr(name) for name in mesh.surfaces) or "none"
        raise ValueError(
            f"the outflow tracts need the four valves as surfaces, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing (the mesh has: {have}). Name them in "
            "the file, or read the ventricles from a mesh that has the atria, the aorta and the "
            "pulmonary artery too (keep=[lv, rv, septum]), or leave out the outflow angles"
        )
    stiffness = stiffness_matrix(mesh.points, mesh.cells)
    apex = apex_nodes(mesh, np.unique(named_surface(mesh, "epi")))
    valve = {name: np.setdiff1d(np.unique(mesh.surfaces[name]), apex) for name in VALVES}
    heights = {name: solve_shares(stiffness, [apex, valve[name]])[1] for name in VALVES}
    left = fields.interventricular >= 0.5
    return ValveFields(
        **heights,
        body_lv=_body(mesh, stiffness, apex, valve["mitral"], valve["aortic"], left, _TRACT_LV),
        body_rv=_body(
            mesh, stiffness, apex, valve["tricuspid"], valve["pulmonary"], ~left, _TRACT_RV
        ),
    )


def _body(
    mesh: Mesh,
    stiffness: sp.csr_matrix,
    apex: np.ndarray,
    inflow: np.ndarray,
    outflow: np.ndarray,
    own: np.ndarray,
    tract: float,
) -> PerNode:
    """0 on the outflow valve, 1 beyond the share `tract` of the ventricle `own` next to it.

    Between them the solution that is 0 on the outflow valve and 1 on the other one and the apex.
    """
    held = np.setdiff1d(np.union1d(inflow, apex), outflow)
    solved = solve_shares(stiffness, [held, outflow])[0]
    volume = np.bincount(mesh.cells.ravel(), np.repeat(mesh.volumes(), 4), len(mesh.points))[own]
    order = np.argsort(solved[own])
    share = np.cumsum(volume[order]) / volume.sum()
    end = solved[own][order][np.searchsorted(share, tract)]
    return np.clip(solved / end, 0.0, 1.0)
