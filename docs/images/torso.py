"""Draw torso.png: the idealised body, its organs, the nine electrodes and a map of a vest.

``python -m cardiotwin simulate mesh.edge_length=2.5 output=numbers output.folder=beat``, then
``python docs/images/torso.py beat``.
"""

import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pyvista
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.ecg import TorsoConductor, place_on_torso, vest

TIMES = (20.0, 40.0, 60.0)  # ms
COLOURS = {"skin": ("0.7", 0.12), "lungs": ("tab:blue", 0.15), "blood": ("tab:red", 0.5)}


def main(folder: Path) -> None:
    """Draw the body and three maps of the beat in `folder`."""
    jax.config.update("jax_enable_x64", True)
    mesh = biventricle(edge_length=2.5)
    sigma_i = np.broadcast_to(np.diag([0.17, 0.04, 0.04]), (mesh.elements, 3, 3))
    conductor = TorsoConductor(fine=6.0, coarse=12.0)
    torso = conductor.torso.around(mesh)
    electrodes = vest(torso)
    field = conductor.lead_field(mesh, sigma_i, electrodes).field
    active = np.asarray(pyvista.read(folder / "activation.vtu").point_data["activation_time_ms"])
    voltages = [-85.0 + 110.0 / (1.0 + np.exp(-(t - active))) for t in TIMES]
    potentials = np.array(voltages) @ field.T

    figure = plt.figure(figsize=(13.0, 4.6), layout="constrained")
    axes = figure.add_subplot(1, 4, 1, projection="3d")
    seen = torso.body(mesh.points)[mesh.surfaces["epi"]]
    add(axes, seen, "tab:orange", 0.6)
    for name, surface in [("skin", torso.skin), *torso.organs]:
        add(axes, torso.body(surface.points)[surface.triangles], *COLOURS[name])
    nine = place_on_torso(torso)
    for name, place in zip(nine.names, torso.body(nine.positions), strict=True):
        axes.plot(*place[:, None], "k.", ms=5)
        left, back, up = place
        axes.text(left + 6.0, back - 25.0, up + 6.0, name, fontsize=7)
    frame(axes, torso, "torso, lungs, heart, blood and electrodes")

    # potentials between the electrodes, by distance; the map is drawn on the skin's triangles
    centres = torso.skin.points[torso.skin.triangles].mean(axis=1)
    gap = np.linalg.norm(centres[:, None] - electrodes.positions[None], axis=2)
    weights = 1.0 / np.maximum(gap, 1.0) ** 4
    weights /= weights.sum(axis=1, keepdims=True)
    near = gap.min(axis=1) < 45.0
    limit = np.abs(potentials).max()
    for k, (time, row) in enumerate(zip(TIMES, potentials, strict=True)):
        axes = figure.add_subplot(1, 4, k + 2, projection="3d")
        shade = plt.get_cmap("RdBu_r")(0.5 + 0.5 * (weights @ row) / limit)
        shade[~near] = [0.85, 0.85, 0.85, 1.0]
        skin = torso.body(torso.skin.points)[torso.skin.triangles]
        front = np.cross(skin[:, 1] - skin[:, 0], skin[:, 2] - skin[:, 0])[:, 1] < 0
        axes.add_collection3d(Poly3DCollection(skin[front], facecolors=shade[front]))
        places = torso.body(electrodes.positions)
        places = places[places[:, 1] < 30.0]
        axes.plot(places[:, 0], places[:, 1] - 3.0, places[:, 2], "k.", ms=1.0)
        frame(axes, torso, f"{time:g} ms")
    scale = plt.cm.ScalarMappable(plt.Normalize(-limit, limit), "RdBu_r")
    figure.colorbar(scale, ax=figure.axes[1:], shrink=0.7, label="potential (mV)")
    figure.savefig(Path(__file__).with_name("torso.png"), dpi=110)


def add(axes, triangles: np.ndarray, colour: str, alpha: float) -> None:
    """Add triangles [n, 3, 3]."""
    axes.add_collection3d(Poly3DCollection(triangles, facecolors=colour, alpha=alpha, lw=0))


def frame(axes, torso, title: str) -> None:
    """Show the whole body from the front."""
    points = torso.body(torso.skin.points)
    low, high = points.min(axis=0), points.max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.3)
    axes.set_axis_off()
    axes.view_init(elev=5.0, azim=-90.0)  # from the front: the body's left is on the right
    axes.set_title(title, fontsize=9)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
