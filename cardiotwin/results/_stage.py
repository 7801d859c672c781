"""Looking at a mesh: from where, at which scale, and what is then to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import _raster, _surface

_MARGIN = 1.06  # of the heart's extent

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class View:
    """A direction to look from.

    Attributes:
        name: shown under the picture.
        direction: from the heart towards the eye.
        up: upward in the picture.
        left: what lies on the left of the picture, such as "RV".
        right: what lies on its right.
    """

    name: str
    direction: Vector
    up: Vector
    left: str = ""
    right: str = ""

    def frame(self) -> Float[np.ndarray, "3 3"]:
        """Rows: unit vectors to the right, upward and towards the eye.

        Raises:
            ValueError: when direction and up are parallel or zero.
        """
        towards, up = (np.asarray(v, np.float64) for v in (self.direction, self.up))
        right = np.cross(up, towards)
        if not np.linalg.norm(right) > 1e-6 * np.linalg.norm(up) * np.linalg.norm(towards):
            raise ValueError(
                f"view {self.name!r} looks along {self.direction} with {self.up} up; expected two "
                "directions that are not parallel"
            )
        up = np.cross(towards, right)
        return np.stack([v / np.linalg.norm(v) for v in (right, up, towards)])


class Framing(NamedTuple):
    """One scale for all views of some points, in parallel projection.

    Attributes:
        width: px.
        height: px.
        half_height: mm from the middle to the upper edge.
        points: [points, 3] mm, what is to be seen.
    """

    width: int
    height: int
    half_height: float
    points: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, views: Sequence[View], height: int) -> "Framing":
        """The tightest picture that holds the points in every view, both sizes even."""
        extents = np.stack([np.ptp(points @ view.frame().T, axis=0) for view in views])
        wide, tall = _MARGIN * extents[:, :2].max(axis=0)
        width = int(np.clip(height * wide / tall, height / 4, height * 4))
        return cls(
            2 * (width // 2), 2 * (height // 2), max(tall, wide * height / width) / 2, points
        )

    @property
    def mm_per_px(self) -> float:
        """Size of a pixel."""
        return 2 * self.half_height / self.height

    def on_picture(self, points: Float[np.ndarray, "points 3"], view: View) -> np.ndarray:
        """Samples from the lower left corner, and mm towards the eye [points, 3]."""
        frame = view.frame()
        extent = self.points @ frame.T
        middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
        scale = _raster.SAMPLES / self.mm_per_px
        corner = np.array([self.width, self.height, 0]) * _raster.SAMPLES / 2
        return (points @ frame.T - middle) * (scale, scale, 1.0) + corner

    @property
    def samples(self) -> tuple[int, int]:
        """Width and height in samples."""
        return _raster.SAMPLES * self.width, _raster.SAMPLES * self.height


class Drawing(NamedTuple):
    """What one view shows.

    Attributes:
        view: where it is seen from.
        points: [points, 3] mm.
        triangles: [triangles, 3].
        light: [triangles, 3] brightness of the corners.
        values: [points].
        plane: a point of the plane before which nothing is drawn, or None.
    """

    view: View
    points: np.ndarray
    triangles: np.ndarray
    light: np.ndarray
    values: np.ndarray
    plane: np.ndarray | None = None

    @classmethod
    def of_surface(cls, surface: _surface.Surface, values: np.ndarray, view: View) -> "Drawing":
        """The boundary of the mesh; values are those of all its nodes."""
        light = _raster.corner_light(surface.points, surface.triangles, view.frame()[2])
        return cls(view, surface.points, surface.triangles, light, values[surface.nodes])

    @classmethod
    def of_half(
        cls, mesh: Mesh, surface: _surface.Surface, values: np.ndarray, view: View
    ) -> "Drawing":
        """What lies behind the plane through the middle, and the cross-section itself."""
        whole = cls.of_surface(surface, values, view)
        towards = view.frame()[2]
        depth = mesh.points @ towards
        middle = (depth.min() + depth.max()) / 2
        points, triangles, across = _surface.cross_section(
            mesh.points, mesh.cells, depth - middle, values
        )
        away = _surface.face_areas(points, triangles) @ towards < 0
        triangles[away] = triangles[away][:, ::-1]
        return cls(
            view,
            np.concatenate([whole.points, points]),
            np.concatenate([whole.triangles, triangles + len(whole.points)]),
            np.concatenate([whole.light, np.ones(triangles.shape)]),
            np.concatenate([whole.values, across]),
            middle * towards,
        )

    def seen(self, framing: Framing) -> _raster.Visible:
        """What is visible of it."""
        place = framing.on_picture(self.points, self.view)
        facets = _raster.Facets(place[:, :2], place[:, 2], self.triangles, self.light)
        return _raster.visible(facets, *framing.samples, nearest=self.nearest(framing))

    def facing(self, least: float) -> np.ndarray:
        """The triangles [facing, 3] whose normals are turned to the eye by a cosine of `least`."""
        normals = _surface.unit(_surface.face_areas(self.points, self.triangles))
        return self.triangles[normals @ self.view.frame()[2] > least]

    def nearest(self, framing: Framing) -> float:
        """Depth of the cutting plane on the picture."""
        if self.plane is None:
            return np.inf
        return float(framing.on_picture(self.plane[None], self.view)[0, 2]) + 1e-6
