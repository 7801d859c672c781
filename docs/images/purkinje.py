"""Draws purkinje.png: python docs/images/purkinje.py (needs a renderer)."""

from pathlib import Path

import numpy as np
import pyvista
from scipy.spatial import KDTree

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.anatomy.purkinje_growth import grow_purkinje
from cardiotwin.tissue.purkinje import ConductionSystem

LATEST = 55.0  # ms, end of the colours


def main() -> None:
    """Both trees, each seen from the other ventricle, coloured by time."""
    mesh = biventricle(2.0)
    axes, networks = heart_axes(mesh), grow_purkinje(mesh)
    times = ConductionSystem(networks).excite().nodes
    plot = pyvista.Plotter(shape=(1, 2), window_size=[1400, 700], border=False, off_screen=True)
    for column, network in enumerate(networks):
        faces = mesh.surfaces[f"endo_{network.side}"]
        wall = pyvista.PolyData(mesh.points, faces=np.insert(faces, 0, 3, axis=1).ravel()).clean()
        shaded = wall.compute_normals(auto_orient_normals=False, cell_normals=False)
        _, near = KDTree(shaded.points).query(network.points)
        lifted = network.points - 0.5 * shaded.point_data["Normals"][near]  # clear of the wall
        lines = np.insert(network.edges, 0, 2, axis=1).ravel()
        tree = pyvista.PolyData(lifted, lines=lines)
        tree["ms"] = times[column]
        plot.subplot(0, column)
        plot.set_background("white")
        plot.add_mesh(wall, color="#efe2d8", smooth_shading=True)
        bar = {"title": "ms", "color": "black", "vertical": True}
        plot.add_mesh(
            tree,
            scalars="ms",
            clim=(0.0, LATEST),
            line_width=4,
            show_scalar_bar=column == 1,
            scalar_bar_args=bar,
        )
        for nodes, colour, size in (
            (network.junctions, "#a01818", 7),
            ([network.root], "black", 18),
        ):
            plot.add_points(
                lifted[nodes], color=colour, point_size=size, render_points_as_spheres=True
            )
        toward = axes.lv_to_rv * (1 if network.side == "lv" else -1) + 0.45 * axes.third
        eye = np.add(wall.center, 215.0 * toward / np.linalg.norm(toward))
        plot.camera_position = [tuple(eye), wall.center, tuple(axes.apex_to_base)]
    plot.screenshot(str(Path(__file__).with_suffix(".png")))


if __name__ == "__main__":
    main()
