"""Places in a ventricle, in the heart's own terms so that they carry over to the next heart."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import numpy as np
from scipy.spatial import KDTree

from cardiotwin._types import Degrees, Milliseconds
from cardiotwin.anatomy.cavity import is_left_ventricle
from cardiotwin.anatomy.coordinates import HeartAxes, VentricularFields, heart_axes
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.anatomy.walls import ENDOCARDIA as SURFACES
from cardiotwin.anatomy.walls import distance_to, rotation, septal

from .stimulus import NodalStimulus


class EndocardialSite(eqx.Module):
    """A root node: where the conduction system reaches the endocardium, and when.

    Args:
        ventricle: "lv" or "rv".
        apicobasal: 0 at the apex, 1 at the base.
        angle: about the long axis, degrees; 0 points from the left ventricle to the right one (the
            septum, for a left site), positive towards the front.
        wall: "septum" or "free" keeps the site to that wall; None allows both.
        onset: ms.
    """

    ventricle: str
    apicobasal: float
    angle: float
    wall: str | None
    onset: float

    def __init__(
        self,
        ventricle: Literal["lv", "rv"],
        apicobasal: float,
        angle: Degrees,
        wall: Literal["septum", "free"] | None = None,
        onset: Milliseconds = 0.0,
    ):
        if wall not in (None, "septum", "free"):
            raise ValueError(f"EndocardialSite: wall is {wall!r}; give 'septum', 'free' or null.")
        if ventricle not in SURFACES:
            raise ValueError(f"EndocardialSite: ventricle is {ventricle!r}; give 'lv' or 'rv'.")
        if not 0 <= apicobasal <= 1:
            raise ValueError(
                f"EndocardialSite: apicobasal is {apicobasal}; it runs from 0 (apex) to 1 (base)."
            )
        if not (np.isfinite(angle) and np.isfinite(onset) and onset >= 0):
            raise ValueError(
                f"EndocardialSite: angle {angle} and onset {onset} must be finite, and the onset "
                "not negative."
            )
        self.ventricle, self.apicobasal, self.angle = ventricle, float(apicobasal), float(angle)
        self.wall, self.onset = wall, float(onset)

    def locate(self, mesh: Mesh | Voxels, fields: VentricularFields, axes: HeartAxes) -> int:
        """Return the node of the endocardium nearest to the site.

        Raises:
            ValueError: the mesh lacks the surface or the wall, or has no endocardium near the site.
        """
        nodes = self._candidates(mesh)
        height = fields.apicobasal[nodes]
        angle = rotation(mesh.points[nodes], axes)
        turn = (angle - self.angle + 180.0) % 360.0 - 180.0
        length = float(np.ptp(mesh.points[nodes] @ axes.apex_to_base))
        off_axis = mesh.points[nodes] - axes.origin
        radius = np.linalg.norm(np.cross(off_axis, axes.apex_to_base), axis=1)
        distance = np.hypot((height - self.apicobasal) * length, np.radians(turn) * radius)
        best = int(np.argmin(distance))
        if distance[best] > 0.35 * length:
            raise ValueError(
                f"EndocardialSite: no endocardium of the {self.ventricle} near apicobasal "
                f"{self.apicobasal}, angle {self.angle} degrees"
                + (f" in the wall '{self.wall}'" if self.wall else "")
                + f": the nearest lies {distance[best]:.0f} mm off, at apicobasal "
                f"{height[best]:.2f}, angle {angle[best]:.0f} degrees."
            )
        return int(nodes[best])

    def _candidates(self, mesh: Mesh | Voxels) -> np.ndarray:
        missing = [name for name in (*SURFACES.values(), "epi") if name not in mesh.surfaces]
        if missing:
            raise ValueError(
                f"Root nodes need the surfaces {missing}, but the mesh has the surfaces "
                f"{sorted(mesh.surfaces)}. Name them in the mesh, or give sites in mm "
                "(FocalStimulus)."
            )
        nodes = np.unique(mesh.surfaces[SURFACES[self.ventricle]])
        if self.wall is None:
            return nodes
        on_septum = septal(mesh, nodes, self.ventricle)
        return nodes[on_septum if self.wall == "septum" else ~on_septum]


# Earliest sites of human hearts after Durrer et al. 1970 (doi 10.1161/01.CIR.41.6.899): three on
# the left endocardium (high on the anterior wall beside the septum, the middle of the septum, the
# posterior wall beside the septum), and the right free wall near the insertion of the anterior
# papillary muscle 10 ms later (Durrer: 5 to 10 ms). A later right root makes the R in V1 taller.
DURRER_SITES = (
    EndocardialSite("lv", 0.45, 0.0, "septum", 0.0),
    EndocardialSite("lv", 0.65, 70.0, None, 0.0),
    EndocardialSite("lv", 0.35, -75.0, None, 0.0),
    EndocardialSite("rv", 0.25, -15.0, "free", 10.0),
)


def sinus_rhythm(
    mesh: Mesh | Voxels,
    fields: VentricularFields,
    *,
    sites: Sequence[EndocardialSite] = DURRER_SITES,
    radius: float = 4.0,
    delay: float = 0.0,
    amplitude: float = 50.0,
    duration: float = 3.0,
    period: float = 1000.0,
    count: int = 1,
) -> NodalStimulus:
    """Sinus-like activation of the ventricles: root nodes on the endocardium.

    Together with a fast endocardial layer it stands in for the conduction system.

    Args:
        mesh: a biventricle with the surfaces "endo_lv" and "endo_rv".
        fields: its Laplace solutions.
        sites: root nodes; those of Durrer et al. 1970 when left out.
        radius: nodes of the inner half of the wall this near to a site are stimulated, mm.
        delay: added to every onset, ms.
        amplitude: mV/ms.
        duration: ms.
        period: cycle length, ms.
        count: number of beats.

    Raises:
        ValueError: a surface is missing, or a site lies off it.
    """
    axes = heart_axes(mesh)
    nodes: list[np.ndarray] = []
    onsets: list[np.ndarray] = []
    for site in sites:
        root = site.locate(mesh, fields, axes)
        near = np.flatnonzero(np.linalg.norm(mesh.points - mesh.points[root], axis=1) <= radius)
        # one layer of nodes is too little: on a fine mesh the fast layer drains it before it fires
        other = SURFACES["rv" if site.ventricle == "lv" else "lv"]
        outside = np.minimum(distance_to(mesh, near, "epi"), distance_to(mesh, near, other))
        near = near[(distance_to(mesh, near, SURFACES[site.ventricle]) < outside) | (near == root)]
        nodes.append(near)
        onsets.append(np.full(len(near), site.onset + delay))
    return NodalStimulus(
        np.concatenate(nodes),
        np.concatenate(onsets),
        amplitude=amplitude,
        duration=duration,
        period=period,
        count=count,
    )


def endocardial_layer(
    mesh: Mesh | Voxels, fields: VentricularFields, *, thickness: float = 0.5, up_to: float = 1.0
) -> np.ndarray:
    """Mask [elements] of the layer that conducts fast for the conduction system.

    Elements that touch an endocardium, and those whose centroid lies within `thickness` (mm) of
    one, from the apex up to the apicobasal coordinate `up_to`.
    """
    wanted = ["endo_lv"] if is_left_ventricle(mesh) else list(SURFACES.values())
    missing = [s for s in wanted if s not in mesh.surfaces]
    if missing:
        raise ValueError(
            f"The fast endocardial layer needs the surfaces {sorted(SURFACES.values())}; the mesh "
            f"lacks {missing}."
        )
    nodes = np.unique(np.concatenate([mesh.surfaces[s] for s in wanted]))
    touches = np.isin(mesh.cells, nodes).any(axis=1)
    centroids = mesh.points[mesh.cells].mean(axis=1)
    near, _ = KDTree(mesh.points[nodes]).query(centroids, distance_upper_bound=thickness)
    below = fields.apicobasal[mesh.cells].mean(axis=1) <= up_to
    return (touches | np.isfinite(near)) & below
