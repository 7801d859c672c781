"""The body around a heart: closed surfaces of the skin and of organs, and where they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cardiotwin.anatomy.closed_surface import ClosedSurface, Nearest
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.thorax import Thorax

# Extent of a body in mm; beyond, its unit is wrong.
_SMALLEST, _LARGEST = 80.0, 3000.0
_SPACING_FROM_SKIN = 1.0  # mm, least depth of the heart beneath the skin


class Torso(NamedTuple):
    """A body, in the coordinates of the heart mesh.

    Attributes:
        skin: its outer surface.
        organs: pairs (tissue, surface); a later one lies on top of an earlier one.
        frame: rows left, posterior and superior [3, 3].
        centre: the heart's centre [3], mm.
        scale: of the lengths of a typical adult.
        layers: pairs (tissue, mm): coats beneath the skin, from outside to inside.
    """

    skin: ClosedSurface
    organs: tuple[tuple[str, ClosedSurface], ...]
    frame: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, " 3"]
    scale: float
    layers: tuple[tuple[str, float], ...] = ()

    def body(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points as seen from the heart's centre: to the left, backwards and upwards, mm."""
        return (points - self.centre) @ self.frame.T

    def mesh(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """The way back from `body`."""
        return self.centre + points @ self.frame


class AbstractTorso(eqx.Module):
    """A body that can be put around a heart.

    Attributes:
        thorax: pose of the heart, and heights of the electrodes.
    """

    thorax: eqx.AbstractVar[Thorax]

    @abstractmethod
    def around(self, mesh: Mesh | Voxels) -> Torso:
        """Return the body around a heart, in the coordinates of the mesh."""


def closed_surface(
    points: Float[np.ndarray, "points 3"], triangles: Int[np.ndarray, "triangles 3"], name: str
) -> ClosedSurface:
    """A closed surface of one name, checked.

    Raises:
        ValueError: it has holes, branches, or faces that point inwards.
    """
    triangles = np.asarray(triangles)
    surface = ClosedSurface(
        np.asarray(points, np.float64), triangles, np.full(len(triangles), name)
    )
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    keys = edges[:, 0].astype(np.int64) * len(points) + edges[:, 1]
    back = edges[:, 1].astype(np.int64) * len(points) + edges[:, 0]
    open_edges = np.flatnonzero(~np.isin(keys, back))
    twice = len(keys) - len(np.unique(keys))
    if twice:
        raise ValueError(
            f"The surface {name!r}: {twice} edges run twice in the same sense, so some triangles "
            "face inwards and others outwards, or the surface branches. Orient them all outwards."
        )
    if len(open_edges):
        place = surface.points[edges[open_edges[0]]].mean(axis=0).round(1).tolist()
        raise ValueError(
            f"The surface {name!r} is open: {len(open_edges)} edges belong to one triangle only, "
            f"such as the one at {place} mm. Close its holes."
        )
    if surface.volume() < 0.0:
        raise ValueError(
            f"The triangles of the surface {name!r} face inwards. Turn them around (exchange two "
            "corners of each)."
        )
    return surface


def check_torso(torso: Torso, mesh: Mesh | Voxels) -> None:
    """Refuse a body that cannot be one around this heart.

    Raises:
        ValueError: its size says that its unit is wrong, an organ leaves the skin, two organs
            intersect, or the heart pierces the skin.
    """
    extent = float(np.ptp(torso.skin.points, axis=0).max())
    if not _SMALLEST <= extent <= _LARGEST:
        raise ValueError(
            f"The torso measures {extent:.4g} mm; expected {_SMALLEST:g} to {_LARGEST:g} mm. Check "
            "the unit of its file."
        )
    skin = Nearest(torso.skin)
    tissue = mesh.points[np.unique(mesh.boundary_faces())]
    depth = skin.depth(tissue)
    if depth.min() < _SPACING_FROM_SKIN:
        worst = tissue[np.argmin(depth)].round(1).tolist()
        share = 100.0 * np.mean(depth < 0.0)
        raise ValueError(
            f"The heart pierces the torso: its point {worst} mm lies {-depth.min():.1f} mm outside "
            f"the skin ({share:.0f} % of its surface does). Expected the whole heart at least "
            f"{_SPACING_FROM_SKIN:g} mm inside: correct position, angles, scale or unit."
        )
    for name, organ in torso.organs:
        depth = skin.depth(organ.points)
        if depth.min() < 0.0:
            worst = organ.points[np.argmin(depth)].round(1).tolist()
            raise ValueError(
                f"The surfaces intersect: {name!r} leaves the skin by {-depth.min():.1f} mm at "
                f"{worst} mm. Expected organs inside the skin."
            )


def check_disjoint(surfaces: Mapping[str, ClosedSurface]) -> None:
    """Refuse closed surfaces that cross one another; one within another is fine.

    Raises:
        ValueError: naming the two, and where.
    """
    names = list(surfaces)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for one, other in ((first, second), (second, first)):
                depth = Nearest(surfaces[other]).depth(surfaces[one].points)
                if depth.min() < 0.0 < depth.max():
                    place = surfaces[one].points[np.argmin(np.abs(depth))].round(1).tolist()
                    raise ValueError(
                        f"The surfaces intersect: {one!r} crosses {other!r} near {place} mm. "
                        "Expected surfaces one within another or apart."
                    )


class Section(NamedTuple):
    """The horizontal section of a body, in body coordinates, mm.

    Attributes:
        left: its middle across.
        posterior: its middle from front to back.
        width: left to right.
        depth: front to back.
    """

    left: float
    posterior: float
    width: float
    depth: float


def section_at(torso: Torso, height: float, band: float = 25.0) -> Section:
    """The section of the skin at a height above the heart's centre.

    Args:
        torso: the body.
        height: mm; beyond the ends of the body the nearest height is taken.
        band: half of the range of heights whose points count, mm.
    """
    points = torso.body(torso.skin.points)
    low, high = points[:, 2].min() + band, points[:, 2].max() - band
    height = float(np.clip(height, low, max(low, high)))
    near = points[np.abs(points[:, 2] - height) <= band]
    if len(near) < 3:
        near = points[KDTree(points[:, 2:]).query([height], k=min(12, len(points)))[1]]
    lower, upper = near[:, :2].min(axis=0), near[:, :2].max(axis=0)
    return Section(*((lower + upper) / 2.0).tolist(), *(upper - lower).tolist())
