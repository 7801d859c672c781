"""Draw docs/images/anatomy.png: ``python docs/images/anatomy.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from cardiotwin.anatomy.coordinates import heart_axes, ventricular_fields
from cardiotwin.anatomy.fibres import helix_angle, ldrb
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle

COLOURS = ["#d9a06b", "#8fb3d9", "#c9c2a5"]  # lv, rv, septum


def draw_section(axes, shape, axis):
    """The regions in the plane where the coordinate `axis` (1 or 2) is zero."""
    other = 3 - axis
    low, high = (-82, shape.base_height) if other == 2 else (-48, 48)
    x, v = np.meshgrid(np.linspace(-70, 40, 551), np.linspace(low, high, 551))
    points = np.zeros((x.size, 3))
    points[:, 0], points[:, other] = x.ravel(), v.ravel()
    inside = shape.depth(points) > 0.0
    region = np.where(inside, shape.regions(points), 0).reshape(x.shape)
    axes.contourf(x, v, region, [0.5, 1.5, 2.5, 3.5], colors=COLOURS)
    axes.contour(x, v, shape.depth(points).reshape(x.shape), [0.0], colors="k", linewidths=0.8)
    axes.set_xlabel("x (mm)")
    axes.set_ylabel(f"{'xyz'[other]} (mm)")
    axes.set_title(f"{'xyz'[axis]} = 0", fontsize=10)
    up = 0.0 if other == 1 else -8.0
    for name, at in (("LV", 0.0), ("RV", -48.0)):
        axes.text(at, up, name, ha="center", va="center", fontsize=10)
    axes.set_aspect("equal")


def draw_fibres(axes, mesh, fibre, angle, chosen, title):
    """Fibres of the left free wall seen from outside, coloured by their helix angle."""
    centres = mesh.points[mesh.cells[chosen]].mean(axis=1)
    half = 2.5 * fibre[chosen]
    lines = np.stack([centres - half, centres + half], axis=1)[:, :, 1:]
    collection = LineCollection(
        lines, array=angle[chosen], cmap="RdYlBu_r", clim=(-75, 75), linewidths=0.9
    )
    axes.add_collection(collection)
    axes.set(xlim=(-40, 40), ylim=(-82, 22), aspect="equal", xlabel="y (mm)")
    axes.set_title(title, fontsize=10)
    return collection


def main() -> None:
    """Two sections of the default shape, and the fibres at three depths."""
    shape = BiventricleShape()
    mesh = biventricle(2.2, shape=shape)
    fields = ventricular_fields(mesh)
    fibre = ldrb(mesh, fields=fields).fibre
    angle = helix_angle(mesh, fibre, fields, heart_axes(mesh))
    depth = fields.phi_epi[mesh.cells].mean(axis=1)
    lateral = mesh.points[mesh.cells].mean(axis=1)[:, 0] > 2.0
    figure, axes = plt.subplots(1, 5, figsize=(15, 4.2), layout="constrained")
    draw_section(axes[0], shape, 1)
    draw_section(axes[1], shape, 2)
    rng = np.random.default_rng(0)
    layers = {"endocardium": (0.0, 0.15), "mid-wall": (0.43, 0.57), "epicardium": (0.85, 1.0)}
    for panel, (title, (low, high)) in zip(axes[2:], layers.items(), strict=True):
        chosen = np.flatnonzero(lateral & (depth > low) & (depth < high))
        chosen = rng.permutation(chosen)[:1500]
        drawn = draw_fibres(panel, mesh, fibre, angle, chosen, f"{title}, from outside")
    figure.colorbar(drawn, ax=axes[2:], label="helix angle (degrees)", shrink=0.8)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
