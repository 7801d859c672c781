"""Draws atria.png: python docs/images/atria.py RUN, a run of experiment=atria."""

import sys
from pathlib import Path

import numpy as np
import pyvista as pv

from cardiotwin.anatomy.atrial_fibres import BUNDLES
from cardiotwin.config import build, load
from cardiotwin.twin import Anatomy

COLOURS = (
    "#1f5a94", "#a9c4dd", "#f0a860", "#8fc77f", "#c62828", "#7b4fa3", "#8d4b3d", "#111111",
    "#f2b6d0", "#8c8f7a", "#2fb5c0", "#cfcac4", "#e8d21d",
)  # fmt: skip


def main() -> None:
    """Bundles with their fibres, and activation times, from in front and behind."""
    anatomy = Anatomy(build(load(["experiment=atria"]).mesh))
    mesh, found, atria = anatomy.mesh, anatomy.atrial_fibres(), anatomy.atria
    cells = np.column_stack([np.full(mesh.elements, 4), mesh.cells]).ravel()
    grid = pv.UnstructuredGrid(cells, np.full(mesh.elements, pv.CellType.TETRA), mesh.points)
    grid.cell_data["bundle"], grid.cell_data["fibre"] = found.bundle, found.fibres.fibre
    run = pv.read(Path(sys.argv[1]) / "activation.vtu")
    # the file holds the triangles of the surfaces too; its points are those of the mesh
    grid.point_data["ms"] = run.point_data["activation_time_ms"]
    surface = grid.extract_surface(algorithm="dataset_surface")
    right = np.cross(atria.forward, atria.up)
    ways = (atria.forward - 0.45 * right, -atria.forward, atria.forward, -atria.forward)
    plot = pv.Plotter(off_screen=True, shape=(2, 2), window_size=(1500, 1300), border=False)
    for k, way in enumerate(ways):
        plot.subplot(*divmod(k, 2))
        if k < 2:
            plot.add_mesh(
                surface.copy(), scalars="bundle", cmap=list(COLOURS), show_scalar_bar=False,
                clim=(-0.5, len(BUNDLES) - 0.5), ambient=0.35,
            )  # fmt: skip
            middle = surface.cell_centers()
            middle.set_active_vectors("fibre")
            lines = middle.glyph(orient="fibre", scale=False, factor=2.0, geom=pv.Line())
            plot.add_mesh(lines, color="#303030", line_width=1)
        else:
            bar = {"title": "ms", "vertical": True, "color": "black", "n_labels": 6, "fmt": "%.0f"}
            plot.add_mesh(
                surface.copy(), scalars="ms", cmap="plasma_r", clim=(0, 100), n_colors=10,
                preference="point", show_scalar_bar=k == 3, scalar_bar_args=bar,
            )  # fmt: skip
        centre = np.array(surface.center)
        plot.camera_position = [centre + 300 * way, centre, atria.up]
        plot.camera.parallel_projection = True
        plot.camera.parallel_scale = 58
    plot.screenshot(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
