"""A heart of ellipsoids as an image of labels, for the tests of imaging."""

import numpy as np

from cardiotwin.anatomy.label_table import Part

TABLE = {
    "lv_wall": 1,
    "la": 2,
    "lv_cavity": 3,
    "ra": 4,
    "rv_cavity": 5,
    "aorta": 6,
    "pulmonary_artery": 7,
}
TOP = 20.0  # mm, the plane of all valves
LV, WALL = np.array([16.0, 16.0, 34.0]), 9.0
RV_CENTRE, RV = np.array([22.0, 0.0, 0.0]), np.array([22.0, 28.0, 32.0])


def phantom(spacing=1.5, *, right_wall=0.0, vessels=True):
    """Labels [x, y, z] and the affine; x points right, y forward, z up, the apex lies below.

    Above the plane of the valves the left cavity is left atrium behind and aorta in front, the
    right one right atrium behind and pulmonary artery in front.

    Args:
        spacing: mm.
        right_wall: thickness of a right wall (label 8), mm; none at zero.
        vessels: label what lies above the plane; if not, the plane bounds a box that is empty.
    """
    low, high = np.array([-32.0, -38.0, -50.0]), np.array([56.0, 38.0, 40.0])
    counts = np.rint((high - low) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1)
    place = low + (grid + 0.5) * spacing

    def inside(centre, axes):
        return (((place - centre) / axes) ** 2).sum(axis=-1) < 1.0

    above, front = place[..., 2] > TOP, place[..., 1] > 0
    cavity, left = inside(0.0, LV), inside(0.0, LV + WALL)
    right = inside(RV_CENTRE, RV) & ~left
    labels = np.zeros(counts, np.int16)
    if right_wall:
        labels[inside(RV_CENTRE, RV + right_wall) & ~left & ~above] = 8
    labels[left & ~cavity & ~above] = TABLE["lv_wall"]
    labels[cavity & ~above] = TABLE["lv_cavity"]
    labels[right & ~above] = TABLE["rv_cavity"]
    if vessels:
        for where, behind, before in ((cavity, "la", "aorta"), (right, "ra", "pulmonary_artery")):
            labels[where & above & ~front] = TABLE[behind]
            labels[where & above & front] = TABLE[before]
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low + 0.5 * spacing
    return labels, affine


def volumes(labels, spacing):
    """Volume of each label in mm3."""
    return {int(k): float((labels == k).sum() * spacing**3) for k in np.unique(labels)}


def part_volume(heart, part: Part) -> float:
    """Volume of one part of a heart in mm3."""
    return float((heart.parts == part).sum() * heart.spacing**3)
