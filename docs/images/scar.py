"""Makes scar.png: an infarct in a made-up LGE image, and a beat without and with it.

python docs/images/scar.py FOLDER        writes to FOLDER and beside this file; ten minutes
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pyvista

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.formats import write_mesh
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.cli import main
from cardiotwin.results._surface import cross_section
from cardiotwin.tissue.substrate import at_nodes
from cardiotwin.twin import Anatomy, load_twin

MARGIN, RADIUS, RIM = 6.0, 12.0, 1.5  # mm


def write_lge(path, heart):
    """Remote muscle 100 with noise of 10, an anterior infarct up to 320; return its centre."""
    centre = heart.map.points("lv", 0.3, 0.45, np.radians(75.0))[0]
    low, high = heart.mesh.points.min(axis=0) - MARGIN, heart.mesh.points.max(axis=0) + MARGIN
    shape = np.ceil(high - low).astype(int)
    affine = np.eye(4)
    affine[:3, 3] = low
    place = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) + low
    away = np.linalg.norm((place - centre) * [1.0, 1.0, 0.8], axis=-1)
    noise = np.random.default_rng(1).normal(0.0, 10.0, away.shape)
    image = 100.0 + 220.0 / (1.0 + np.exp((away - RADIUS) / RIM)) + noise
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), path)
    return centre


def beat(folder, twin, *words):
    """Activation times at the nodes of a twin, ms."""
    options = ["output.frames_every=0", "output.film=false", "output.report=false", "leads=null"]
    where = ["experiment=twin", f"mesh.path={twin}", f"output.folder={folder}", "solver.t1=150"]
    assert main(["simulate", *where, *options, *words]) == 0
    return np.asarray(pyvista.read(folder / "activation.vtu").point_data["activation_time_ms"])


def draw(figure, panel, mesh, centre, values, levels, colours, label):
    """A short-axis section through a point."""
    axes = heart_axes(mesh)
    height = (mesh.points - centre) @ axes.apex_to_base
    points, triangles, found = cross_section(mesh.points, mesh.cells, height, values)
    x, y = ((points - axes.origin) @ way for way in (axes.lv_to_rv, axes.third))
    known = np.isfinite(found[triangles]).all(axis=1)
    panel.tripcolor(x, y, triangles, np.zeros(len(x)), cmap="Greys", vmin=-1, vmax=3)
    shown = panel.tricontourf(
        x, y, triangles[known], np.nan_to_num(found), levels=levels, cmap=colours, extend="max"
    )
    panel.set_aspect("equal")
    panel.set_xlabel("towards the right ventricle (mm)")
    figure.colorbar(shown, ax=panel, label=label, shrink=0.75)


def draw_all(folder):
    """Make the twin, the beats and the picture."""
    heart = Anatomy(biventricle(2.0))
    write_mesh(folder / "heart.vtu", heart.mesh)
    centre = write_lge(folder / "lge.nii.gz", heart)
    twin = folder / "patient"
    words = [str(folder / "heart.vtu"), "-o", str(twin), "--scar", str(folder / "lge.nii.gz")]
    assert main(["twin", *words]) == 0
    mesh = load_twin(twin).mesh
    core, border = (at_nodes(mesh, mesh.cell_data[name]) for name in ("scar", "border_zone"))
    shares = np.clip(core + 0.5 * border, 1e-6, 0.9999)
    without = beat(folder / "without", twin)
    within = beat(folder / "with", twin, "tissue=scarred")
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 3.9), constrained_layout=True)
    levels, times = np.linspace(0.0, 1.0, 11), np.arange(0, 101, 10)
    draw(figure, panels[0], mesh, centre, shares, levels, "YlOrBr", "core + half of border zone")
    draw(figure, panels[1], mesh, centre, without, times, "viridis_r", "ms")
    draw(figure, panels[2], mesh, centre, within, times, "viridis_r", "ms")
    panels[0].set_ylabel("towards the front (mm)")
    titles = "Scar and border zone", "Without the scar", "With the scar (grey: never activated)"
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=11)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
