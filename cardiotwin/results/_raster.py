"""Drawing a shaded surface with NumPy alone: no VTK, no OpenGL, no display.

The eye stands still while values change, so what lies behind every sample of the picture is
found once: the three points of the visible triangle, their weights, and the light. A picture is
then one sparse product and a look-up of colours, and a film many of them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cardiotwin.results._surface import face_areas, point_normals, unit

SAMPLES = 2  # a side: four samples a pixel smooth the edges
_CREASE = np.cos(np.deg2rad(35.0))  # faces tilted further from the mean normal are shaded flat
_AMBIENT, _DIFFUSE = 0.5, 0.5  # light from the eye
_SLIVER = 1e-9  # twice the area in samples below which a triangle is not drawn
_CHUNK = 200_000  # candidate samples held at a time: few enough for the processor's cache


class Facets(NamedTuple):
    """Triangles on the picture.

    Attributes:
        xy: [points, 2] in samples from the lower left corner.
        depth: [points] mm towards the eye.
        triangles: [triangles, 3].
        light: [triangles, 3] brightness at the corners, 0 to 1.
    """

    xy: Float[np.ndarray, "points 2"]
    depth: Float[np.ndarray, " points"]
    triangles: Int[np.ndarray, "triangles 3"]
    light: Float[np.ndarray, "triangles 3"]


class Visible(NamedTuple):
    """What each covered sample of a picture shows.

    Attributes:
        sample: [samples] index into the picture, row by row from the lower left corner.
        weights: sparse [samples, points]; the product with point values gives sample values.
        shares: sparse [pixels, samples], each sample's brightness over the samples of a pixel;
            pixels row by row from the upper left corner.
        depth: [height, width] mm towards the eye, -inf where nothing is.
    """

    sample: np.ndarray
    weights: Any
    shares: Any
    depth: np.ndarray


def corner_light(
    points: Float[np.ndarray, "points 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    towards_eye: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "triangles 3"]:
    """Brightness at each corner of each triangle, smooth over the surface, flat at creases.

    Args:
        points: [points, 3] mm.
        triangles: [triangles, 3], outward.
        towards_eye: unit vector.

    Returns:
        0 to 1.
    """
    faces = unit(face_areas(points, triangles))
    smooth = point_normals(points, triangles)[triangles]
    aligned = np.einsum("fcx,fx->fc", smooth, faces)
    normals = np.where((aligned > _CREASE)[..., None], smooth, faces[:, None])
    return _AMBIENT + _DIFFUSE * np.clip(normals @ towards_eye, 0.0, 1.0)


def visible(facets: Facets, width: int, height: int, nearest: float = np.inf) -> Visible:
    """Find the front-most triangle behind every sample.

    Triangles that face away are left out, as a closed surface hides them.

    Args:
        facets: the triangles, counter-clockwise where they face the eye.
        width: of the picture in samples.
        height: of the picture in samples.
        nearest: depth beyond which nothing is drawn, mm towards the eye: a cut.

    Returns:
        What is seen.
    """
    front = np.full(width * height, -np.inf)
    owner = np.full(width * height, -1, np.int32)
    second, third, depth = _planes(facets)
    for triangle, column, row in _candidates(facets, width, height):
        w1, w2 = _evaluate(second, triangle, column, row), _evaluate(third, triangle, column, row)
        inside = (w1 >= 0.0) & (w2 >= 0.0) & (w1 + w2 <= 1.0)
        triangle, column, row = triangle[inside], column[inside], row[inside]
        towards = _evaluate(depth, triangle, column, row)
        towards[towards > nearest] = -np.inf
        sample = row * width + column
        np.maximum.at(front, sample, towards)
        wins = np.isfinite(towards) & (front[sample] == towards)
        owner[sample[wins]] = triangle[wins]
    sample = np.flatnonzero(owner >= 0)
    triangle, row, column = owner[sample], sample // width, sample % width
    w1, w2 = _evaluate(second, triangle, column, row), _evaluate(third, triangle, column, row)
    parts = np.stack([1.0 - w1 - w2, w1, w2], axis=1).astype(np.float32)
    weights = sp.csr_matrix(
        (
            parts.ravel(),
            facets.triangles[triangle].ravel().astype(np.int32),
            3 * np.arange(len(sample) + 1, dtype=np.int32),
        ),
        shape=(len(sample), len(facets.xy)),
    )
    light = np.einsum("sk,sk->s", parts, facets.light[triangle].astype(np.float32))
    across = width // SAMPLES
    pixel = (height - 1 - row) // SAMPLES * across + column // SAMPLES
    shares = sp.csr_matrix(
        (light / SAMPLES**2, (pixel, np.arange(len(sample)))),
        shape=(height // SAMPLES * across, len(sample)),
    )
    return Visible(sample, weights, shares, front.reshape(height, width))


def paint(
    seen: Visible, colours: Float[np.ndarray, "samples 3"], width: int, height: int
) -> np.ndarray:
    """Light the samples, put them on white and average them to pixels.

    Args:
        seen: from `visible`.
        colours: of the covered samples, 0 to 1.
        width: of the picture in samples.
        height: of the picture in samples.

    Returns:
        uint8 [pixels, pixels, 3], the first row on top.
    """
    white = 1.0 - np.diff(seen.shares.indptr) / SAMPLES**2
    pixels = seen.shares @ np.asarray(colours, np.float32)
    pixels += white[:, None].astype(np.float32)
    pixels *= 255.0
    pixels += 0.5
    return pixels.astype(np.uint8).reshape(height // SAMPLES, width // SAMPLES, 3)


def _planes(facets: Facets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the second and third corner, and depth: each a + b column + c row.

    Returns:
        Three arrays [3, triangles] of a, b and c; samples lie at half-integers.
    """
    corners = facets.xy[facets.triangles]
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    area = np.where(area > _SLIVER, area, 1.0)
    origin = corners[:, 0] - 0.5
    second = np.stack([np.zeros(len(u)), v[:, 1] / area, -v[:, 0] / area])
    third = np.stack([np.zeros(len(u)), -u[:, 1] / area, u[:, 0] / area])
    for plane in (second, third):
        plane[0] = -(plane[1:] * origin.T).sum(axis=0)
    d = facets.depth[facets.triangles].T
    depth = second * (d[1] - d[0]) + third * (d[2] - d[0])
    depth[0] += d[0]
    return second, third, depth


def _evaluate(
    plane: np.ndarray, triangle: np.ndarray, column: np.ndarray, row: np.ndarray
) -> np.ndarray:
    value = plane[0].take(triangle)
    value += plane[1].take(triangle) * column
    value += plane[2].take(triangle) * row
    return value


def _candidates(
    facets: Facets, width: int, height: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (triangle, column, row) of the samples in the boxes around triangles that face us."""
    corners = facets.xy[facets.triangles]
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, (width, height)).astype(np.int32)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5) + 1, 0, (width, height)).astype(np.int32)
    wide, tall = (high - low).T
    count = np.where(area > _SLIVER, wide * tall, 0)
    facing = np.flatnonzero(count).astype(np.int32)
    chunk = np.cumsum(count[facing]) // _CHUNK
    for group in np.split(facing, np.flatnonzero(np.diff(chunk)) + 1):
        number = count[group]
        triangle = np.repeat(group, number)
        within = np.arange(len(triangle), dtype=np.int32)
        within -= np.repeat((np.cumsum(number) - number).astype(np.int32), number)
        row, column = np.divmod(within, wide[triangle])
        yield triangle, column + low[triangle, 0], row + low[triangle, 1]
