"""An idealised body around a heart: a trunk of given size with lungs, blood, bone and muscle."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.cavity import cavity_surface
from cardiotwin.anatomy.closed_surface import ClosedSurface
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.thorax import Thorax, heart_pose
from cardiotwin.ecg.torso import AbstractTorso, Torso, closed_surface

# The trunk ends above and below in caps: |r|^CAP + |z|^CAP = 1, r across and z along it.
CAP = 8.0
SUBDIVISIONS = 4  # of an icosahedron: 2562 points

# Lungs as shares of the trunk's half axes: (left, posterior, superior) middle and half axes. Their
# volume is 4.1 L in the default trunk of 30 L, what the heart takes included.
_LUNGS = {
    "right": ((-0.50, 0.02, 0.22), (0.34, 0.66, 0.46)),
    "left": ((0.52, 0.14, 0.22), (0.32, 0.60, 0.46)),
}
_BONES = {  # spine and sternum
    "spine": ((0.0, 0.74, 0.0), (0.11, 0.15, 0.90)),
    "sternum": ((0.0, -0.90, 0.22), (0.10, 0.05, 0.34)),
}


class IdealisedTorso(AbstractTorso):
    """A trunk whose cross-section is a superellipse, closed above and below by smooth caps.

    Attributes:
        height: of the trunk, mm.
        middle: of the trunk above the heart's centre, mm.
        lungs: whether there are lungs.
        blood: whether the cavities of the heart hold blood, where its endocardia are labelled.
        bone: whether there are spine and sternum.
        muscle: thickness of a coat of muscle beneath fat and skin, mm.
        fat: thickness of a coat of fat beneath the skin, mm.
        thorax: width, depth and exponent of the cross-section, and the pose of the heart.
        scale: of all lengths; by default the cube root of the heart's volume over that of
            `thorax.wall_volume`.
    """

    height: Millimetres = 500.0
    middle: Millimetres = 5.0
    lungs: bool = True
    blood: bool = True
    bone: bool = False
    muscle: Millimetres = 0.0
    fat: Millimetres = 0.0
    thorax: Thorax = eqx.field(default_factory=Thorax)
    scale: float | None = None

    def __check_init__(self):
        for name, least in (("height", 100.0), ("muscle", 0.0), ("fat", 0.0)):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= least):
                raise ValueError(
                    f"IdealisedTorso: {name} is {value} mm; expected at least {least:g} mm."
                )

    def around(self, mesh: Mesh | Voxels) -> Torso:
        """Return the trunk around the centre of a heart whose endocardia are labelled."""
        centre, frame, scale = heart_pose(mesh, self.thorax, scale=self.scale)
        half = scale * np.array([self.thorax.width, self.thorax.depth, self.height]) / 2.0
        middle = scale * np.array(
            [-self.thorax.heart_left, self.thorax.heart_anterior, self.middle]
        )

        def placed(name: str, at, axes, exponents) -> ClosedSurface:
            points, triangles = superellipsoid(half * axes, *exponents)
            return closed_surface(centre + (middle + half * at + points) @ frame, triangles, name)

        skin = placed("skin", np.zeros(3), np.ones(3), (self.thorax.exponent, CAP))
        organs = []
        if self.lungs:
            for side, (at, axes) in _LUNGS.items():
                organs.append(("lungs", placed(f"{side} lung", at, np.array(axes), (2.2, 2.2))))
        if self.bone:
            for name, (at, axes) in _BONES.items():
                organs.append(("bone", placed(name, at, np.array(axes), (2.0, 6.0))))
        if self.blood:
            organs += blood_of(mesh)
        layers = [("fat", scale * self.fat), ("muscle", scale * self.muscle)]
        return Torso(
            skin,
            tuple(organs),
            frame,
            centre,
            scale,
            tuple((name, depth) for name, depth in layers if depth > 0.0),
        )


def blood_of(mesh: Mesh | Voxels) -> list[tuple[str, ClosedSurface]]:
    """The cavities of a heart that its labelled endocardia enclose."""
    found = []
    for name in ("endo_lv", "endo_rv"):
        if len(mesh.surfaces.get(name, ())):
            points, triangles = cavity_surface(mesh, name)
            surface = ClosedSurface(points, triangles, np.full(len(triangles), f"blood {name}"))
            found.append(("blood", surface))
    return found


def superellipsoid(
    half_axes: Float[np.ndarray, " 3"],
    exponent: float,
    cap: float,
    subdivisions: int = SUBDIVISIONS,
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, "triangles 3"]]:
    """Points and outward triangles of a body with superelliptic sections.

    Args:
        half_axes: along x, y and z, mm.
        exponent: of the section across z.
        cap: of the outline along z.
        subdivisions: of the icosahedron whose points are moved along their rays.
    """
    directions, triangles = icosphere(subdivisions)
    # rays through the points of the ellipsoid: triangles of a long body are then not long
    rays = directions * half_axes
    shares = np.abs(directions)
    across = (shares[:, 0] ** exponent + shares[:, 1] ** exponent) ** (1.0 / exponent)
    radius = (across**cap + shares[:, 2] ** cap) ** (1.0 / cap)
    return rays / radius[:, None], triangles


def icosphere(
    subdivisions: int,
) -> tuple[Float[np.ndarray, "points 3"], Int[np.ndarray, "triangles 3"]]:
    """The unit sphere as an icosahedron whose triangles were cut in four so many times."""
    import pyvista  # slow to import

    sphere = pyvista.Icosphere(nsub=subdivisions)
    points = np.asarray(sphere.points, np.float64)
    triangles = np.asarray(sphere.regular_faces, np.int32)
    return points / np.linalg.norm(points, axis=1, keepdims=True), triangles
