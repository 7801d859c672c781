"""Idealised geometries made here: a biventricular heart of truncated ellipsoids, and a slab."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.ellipsoid import Ellipsoid, overlap
from cardiotwin.anatomy.lattice import Pattern, box_lattice
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.stuffing import cube_edge, mean_edge, stuff
from cardiotwin.anatomy.topology import boundary_faces

Vector = tuple[Millimetres, Millimetres, Millimetres]

REGIONS = {1: "lv", 2: "rv", 3: "septum"}

# The thinnest wall must hold this many cubes across, or the stuffed wall may have holes.
_CUBES_ACROSS = 1.05


@dataclass(frozen=True)
class BiventricleShape:
    """Truncated ellipsoids of the size of a human heart.

    The long axis of the left ventricle is z with the apex down; the base is the plane
    z = ``base_height``, above the equator at z = 0. The right ventricle lies at negative x. In
    the patient's frame x then points left, y back and z up (a heart standing on its apex).

    Attributes:
        lv_endocardium: semi-axes of the left endocardial ellipsoid, mm.
        lv_wall: added to them for the epicardium of the left ventricle and the septum, mm.
        rv_endocardium: semi-axes of the right endocardial ellipsoid, mm; the cavity is this
            ellipsoid less the left epicardial one.
        rv_offset: distance of its centre from the long axis, mm.
        rv_wall: added to them for the right epicardium, mm.
        base_height: height of the base above the equator, mm.

    Raises:
        ValueError: a length is not positive, or the parts do not make two open cavities.
    """

    lv_endocardium: Vector = (25.0, 25.0, 65.0)
    lv_wall: Millimetres = 10.0
    rv_endocardium: Vector = (30.0, 41.0, 56.0)
    rv_offset: Millimetres = 30.0
    rv_wall: Millimetres = 4.0
    base_height: Millimetres = 17.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = np.asarray(getattr(self, field.name), np.float64)
            shape = (3,) if field.name.endswith("endocardium") else ()
            if value.shape != shape or not (np.isfinite(value) & (value > 0.0)).all():
                what = "three positive lengths" if shape else "a positive length"
                raise ValueError(
                    f"{field.name} must be {what} in mm, got {getattr(self, field.name)!r}"
                )
        low_tops = min(self.lv_endocardium[2], self.rv_endocardium[2])
        if self.base_height >= low_tops:
            raise ValueError(
                f"base_height must lie below the tops of both cavities ({low_tops:g} mm), or they "
                f"are closed; got {self.base_height:g} mm"
            )
        if self.rv_offset + self.rv_endocardium[0] <= self.lv_endocardium[0] + self.lv_wall:
            raise ValueError(
                "the right cavity lies inside the left ventricle: rv_offset + rv_endocardium[0] = "
                f"{self.rv_offset + self.rv_endocardium[0]:g} mm must exceed lv_endocardium[0] + "
                f"lv_wall = {self.lv_endocardium[0] + self.lv_wall:g} mm"
            )
        right_reach = self.rv_endocardium[0] + self.rv_wall - self.rv_offset
        if right_reach >= self.lv_endocardium[0] or self.rv_endocardium[2] + self.rv_wall >= (
            self.lv_endocardium[2] + self.lv_wall
        ):
            raise ValueError(
                "the right ventricle must lie to one side of the left one and end above its apex: "
                "increase rv_offset or lessen rv_endocardium"
            )

    @property
    def lv_endo(self) -> Ellipsoid:
        """Left endocardium."""
        return Ellipsoid(np.zeros(3), np.asarray(self.lv_endocardium, np.float64))

    @property
    def lv_epi(self) -> Ellipsoid:
        """Left epicardium, and under the right cavity the right side of the septum."""
        return Ellipsoid(np.zeros(3), self.lv_endo.semi_axes + self.lv_wall)

    @property
    def rv_endo(self) -> Ellipsoid:
        """Right endocardium of the free wall."""
        centre = np.array([-self.rv_offset, 0.0, 0.0])
        return Ellipsoid(centre, np.asarray(self.rv_endocardium, np.float64))

    @property
    def rv_epi(self) -> Ellipsoid:
        """Right epicardium."""
        return Ellipsoid(self.rv_endo.centre, self.rv_endo.semi_axes + self.rv_wall)

    def surface_distances(self, points: Float[np.ndarray, "n 3"]) -> dict[str, np.ndarray]:
        """Distance in mm, to first order, from each wall surface, positive on the tissue's side."""
        lv_epi = self.lv_epi.distance(points)
        return {
            "epi": -np.minimum(lv_epi, self.rv_epi.distance(points)),
            "endo_lv": self.lv_endo.distance(points),
            "endo_rv": np.maximum(self.rv_endo.distance(points), -lv_epi),
        }

    def depth(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance in mm, to first order, to the nearest wall surface, positive in the tissue."""
        return np.minimum.reduce(list(self.surface_distances(points).values()))

    def regions(self, points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
        """1 left ventricle, 2 right ventricle, 3 septum, for points in the tissue.

        The septum is the part of the left wall below the right cavity: a point belongs to it when
        its image on the left epicardium, at the same parametric angles, borders that cavity.
        """
        inner = self.lv_endo.semi_axes
        low, high = np.zeros(len(points)), np.full(len(points), 2.0 * self.lv_wall)
        for _ in range(24):  # wall coordinate: (x/(a+t))^2 + (y/(b+t))^2 + (z/(c+t))^2 = 1
            middle = 0.5 * (low + high)
            outside = ((points / (inner + middle[:, None])) ** 2).sum(axis=1) > 1.0
            low, high = np.where(outside, middle, low), np.where(outside, high, middle)
        image = points * (self.lv_epi.semi_axes / (inner + high[:, None]))
        septal = self.rv_endo.distance(image) < 0.0
        right = self.lv_epi.distance(points) > 0.0
        return np.where(right, 2, np.where(septal, 3, 1))

    def volumes(self, steps: int = 800) -> dict[str, float]:
        """Volumes in mm3 of the exact shape, by quadrature of chords along x.

        Args:
            steps: midpoints along y and along z.

        Returns:
            "lv_cavity", "rv_cavity", "lv_wall" (with the septum), "rv_wall" and "myocardium".
        """
        widest = max(self.lv_epi.semi_axes[1], self.rv_epi.semi_axes[1])
        y_edges, dy = np.linspace(-widest, widest, steps + 1, retstep=True)
        z_edges, dz = np.linspace(
            -self.lv_epi.semi_axes[2], self.base_height, steps + 1, retstep=True
        )
        y, z = np.meshgrid(0.5 * (y_edges[1:] + y_edges[:-1]), 0.5 * (z_edges[1:] + z_edges[:-1]))
        lengths = self._chords(y.ravel(), z.ravel())
        return {name: float(x.sum() * dy * dz) for name, x in lengths.items()}

    def areas(self, steps: int = 800) -> dict[str, float]:
        """Areas in mm2 of the exact surfaces "epi", "endo_lv", "endo_rv" and "base".

        Args:
            steps: midpoints along each of the two directions.
        """
        lv_endo, lv_epi, rv_endo, rv_epi = self.lv_endo, self.lv_epi, self.rv_endo, self.rv_epi
        top = self.base_height
        widest = max(lv_epi.semi_axes[1], rv_epi.semi_axes[1])
        y_edges, dy = np.linspace(-widest, widest, steps * 8 + 1, retstep=True)
        y = 0.5 * (y_edges[1:] + y_edges[:-1])
        base = self._chords(y, np.full_like(y, top))["myocardium"]
        return {
            "epi": lv_epi.area(lambda p: rv_epi.distance(p) > 0.0, top, steps)
            + rv_epi.area(lambda p: lv_epi.distance(p) > 0.0, top, steps),
            "endo_lv": lv_endo.area(lambda p: np.ones(len(p), bool), top, steps),
            "endo_rv": rv_endo.area(lambda p: lv_epi.distance(p) > 0.0, top, steps)
            + lv_epi.area(lambda p: rv_endo.distance(p) < 0.0, top, steps),
            "base": float(base.sum() * dy),
        }

    def _chords(self, y: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
        """Lengths in mm of the line along x through (y, z) in each part."""
        lv_endo, lv_epi = self.lv_endo.half_chord(y, z), self.lv_epi.half_chord(y, z)
        rv_endo, rv_epi = self.rv_endo.half_chord(y, z), self.rv_epi.half_chord(y, z)
        cavity = 2.0 * rv_endo - overlap(rv_endo, -self.rv_offset, lv_epi, 0.0)
        right = 2.0 * rv_epi - overlap(rv_epi, -self.rv_offset, lv_epi, 0.0)
        left = 2.0 * (lv_epi - lv_endo)
        return {
            "lv_cavity": 2.0 * lv_endo,
            "rv_cavity": cavity,
            "lv_wall": left,
            "rv_wall": right - cavity,
            "myocardium": left + right - cavity,
        }

    def largest_edge_length(self) -> float:
        """Largest mean edge in mm whose mesh still has sound walls."""
        return mean_edge(min(self.lv_wall, self.rv_wall) / _CUBES_ACROSS, self._surface_to_volume())

    def _surface_to_volume(self) -> float:
        return sum(self.areas(200).values()) / self.volumes(200)["myocardium"]


_HUMAN = BiventricleShape()


def biventricle(edge_length: Millimetres = 1.5, *, shape: BiventricleShape = _HUMAN) -> Mesh:
    """Idealised biventricular heart of truncated ellipsoids, filled by isosurface stuffing.

    Regions 1 "lv", 2 "rv" and 3 "septum"; surfaces "epi", "endo_lv", "endo_rv" (with the right
    side of the septum) and "base", which together are the whole boundary. Nodes of the walls lie
    on the ellipsoids, those of the base exactly in its plane.

    Args:
        edge_length: mean edge of the elements in mm.
        shape: the ellipsoids; a human heart when left out.

    Returns:
        The mesh, without fibres (see `cardiotwin.anatomy.fibres.ldrb`).

    Raises:
        ValueError: the edge length is not positive or too large for the thinner wall.
    """
    largest = shape.largest_edge_length()
    if not 0.0 < edge_length <= largest * (1.0 + 1e-9):
        raise ValueError(
            f"edge_length must be positive and at most {np.floor(100.0 * largest) / 100.0:g} mm, "
            f"so that a wall of {min(shape.lv_wall, shape.rv_wall):g} mm holds an element across; "
            f"got {edge_length:g} mm"
        )
    cube = cube_edge(edge_length, shape._surface_to_volume())
    reach = np.maximum(shape.lv_epi.semi_axes, shape.rv_epi.semi_axes)
    lower = np.array([-(shape.rv_offset + shape.rv_epi.semi_axes[0]), -reach[1], -reach[2]])
    right = max(shape.lv_epi.semi_axes[0], shape.rv_epi.semi_axes[0] - shape.rv_offset)
    upper = np.array([right + cube, reach[1] + cube, shape.base_height])
    points, cells = stuff(shape.depth, lower - cube, upper, cube)
    surfaces = _label_surfaces(shape, points, boundary_faces(cells))
    _check_walls(surfaces, edge_length, largest)
    regions = shape.regions(points[cells].mean(axis=1))
    return Mesh(points, cells, regions, surfaces=surfaces, region_names=REGIONS)


def _label_surfaces(
    shape: BiventricleShape, points: np.ndarray, faces: np.ndarray
) -> dict[str, np.ndarray]:
    base = (points[faces][:, :, 2] == shape.base_height).all(axis=1)
    distances = shape.surface_distances(points[faces].mean(axis=1))
    nearest = np.argmin(np.abs(np.stack(list(distances.values()))), axis=0)
    surfaces = {name: faces[~base & (nearest == k)] for k, name in enumerate(distances)}
    return {**surfaces, "base": faces[base]}


def _check_walls(surfaces: dict[str, np.ndarray], edge_length: float, largest: float) -> None:
    """Refuse a mesh with a hole through a wall: two wall surfaces then share nodes."""
    walls = [np.unique(surfaces[name]) for name in ("epi", "endo_lv", "endo_rv")]
    _, count = np.unique(np.concatenate(walls), return_counts=True)
    if (count > 1).any():
        raise ValueError(
            f"an edge length of {edge_length:g} mm leaves {int((count > 1).sum())} nodes of holes "
            "in a wall of this shape: use a smaller one, such as "
            f"{0.8 * min(edge_length, largest):.2g} mm"
        )


def slab(
    size: Vector = (20.0, 7.0, 3.0), edge_length: Millimetres = 0.2, pattern: Pattern = "kuhn"
) -> Mesh:
    """Rectangular slab of tissue with one corner at the origin and fibres along x.

    The default is the slab of the N-version benchmark (Niederer et al. 2011,
    doi:10.1098/rsta.2011.0139).

    Args:
        size: lengths along x, y and z in mm.
        edge_length: edge in mm of the cubes that are divided into tetrahedra; each length of the
            slab takes the nearest whole number of cubes, whose edges then differ slightly.
        pattern: "kuhn", "alternating" or "bcc" (see `cardiotwin.anatomy.lattice`).

    Returns:
        A mesh with the surfaces "x0", "x1", "y0", "y1", "z0", "z1" and the cell data "fibre"
        (along x) and "sheet" (along y).

    Raises:
        ValueError: a size or the edge length is not positive, the edge is longer than twice a
            side, or the pattern is unknown.
    """
    lengths = np.asarray(size, np.float64)
    if lengths.shape != (3,) or not (np.isfinite(lengths) & (lengths > 0.0)).all():
        raise ValueError(f"size must be three positive lengths in mm, got {size!r}")
    if not 0.0 < edge_length <= 2.0 * lengths.min():
        raise ValueError(
            f"edge_length must be positive and at most {2.0 * lengths.min():g} mm, twice the "
            f"shortest side; got {edge_length:g} mm"
        )
    if pattern not in ("kuhn", "alternating", "bcc"):
        raise ValueError(f"pattern must be 'kuhn', 'alternating' or 'bcc', got {pattern!r}")
    counts = np.maximum(np.rint(lengths / edge_length).astype(int), 1)
    unit, cells = box_lattice((int(counts[0]), int(counts[1]), int(counts[2])), pattern)
    faces = boundary_faces(cells)
    surfaces = {}
    for axis, letter in enumerate("xyz"):
        for end, value in enumerate((0.0, float(counts[axis]))):
            surfaces[f"{letter}{end}"] = faces[(unit[faces][:, :, axis] == value).all(axis=1)]
    x, y = (np.tile(np.eye(3)[axis], (len(cells), 1)) for axis in (0, 1))
    points = unit * (lengths / counts)
    return Mesh(points, cells, surfaces=surfaces, cell_data={"fibre": x, "sheet": y})
