"""Scar and border zone: shares from labels and intensities, and what they do to the tissue."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from cardiotwin.anatomy.fibres import fibres_from_mesh
from cardiotwin.anatomy.formats import write_mesh
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.scar import CORE, Scar, scar_from_intensity, scar_from_labels
from cardiotwin.cli import main
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov
from cardiotwin.propagation.solve import solve
from cardiotwin.run.journal import Journal
from cardiotwin.run.tuning import warn_ignored_scar
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import BoxStimulus
from cardiotwin.tissue.substrate import ScarConduction, at_nodes, scar_shares
from cardiotwin.twin import Anatomy, Cells, Myocardium, UniformFibres, load_twin

SIZE = np.array([24.0, 20.0, 16.0])
CENTRE, INNER, OUTER = np.array([12.0, 9.0, 8.0]), 4.0, 6.5


@pytest.fixture(scope="module")
def block():
    return slab(tuple(SIZE), 2.0)


def image(spacing=(0.5, 0.7, 0.9), angle=0.4):
    """A grid around the block whose axes are turned and of unequal steps: shape, affine, radius."""
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    shape = np.ceil(44.0 / np.array(spacing)).astype(int)
    affine[:3, 3] = SIZE / 2 + 0.0123 - affine[:3, :3] @ (shape - 1) / 2  # no point between voxels
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    return affine, np.linalg.norm(place - CENTRE, axis=-1)


def sphere(radius):
    return 4.0 / 3.0 * np.pi * radius**3


def volume(mesh, share):
    return float((mesh.volumes() * share).sum())


def test_shares_of_labels_add_up_to_the_volumes(block):
    affine, radius = image()
    labels = np.where(radius < INNER, 7, np.where(radius < OUTER, 3, 0)).astype(np.int16)
    scar = scar_from_labels(block, labels, core=7, border=[3], affine=affine)
    voxel = np.linalg.det(affine[:3, :3])
    assert volume(block, scar.core) == pytest.approx((labels == 7).sum() * voxel, rel=0.01)
    assert volume(block, scar.border) == pytest.approx((labels == 3).sum() * voxel, rel=0.01)
    away = np.linalg.norm(block.centroids() - CENTRE, axis=1)
    assert np.all(scar.core[away < 2.0] == 1.0)
    assert np.all(scar.core[away > 6.5] == 0.0)
    assert np.any((scar.core > 0.2) & (scar.core < 0.8))
    assert np.all(scar.core + scar.border <= 1.0 + 1e-12)


def test_image_of_a_file_lies_where_its_affine_says(block, tmp_path):
    affine, radius = image()
    labels = (radius < INNER).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "scar.nii.gz")
    found = scar_from_labels(block, tmp_path / "scar.nii.gz", core=1)
    expected = scar_from_labels(block, labels, core=1, affine=affine)
    np.testing.assert_allclose(found.core, expected.core, atol=0.05)
    assert not found.border.any()


@pytest.fixture(scope="module")
def lge():
    """Remote muscle 100 +- 10, border zone 140, core 300."""
    affine, radius = image((1.0, 1.0, 1.0), 0.0)
    clean = np.where(radius < INNER, 300.0, np.where(radius < OUTER, 140.0, 100.0))
    return clean + np.random.default_rng(0).normal(0.0, 10.0, clean.shape), affine


def test_thresholds_of_standard_deviations(block, lge):
    scar = scar_from_intensity(block, lge[0], affine=lge[1])
    low, high = scar.thresholds
    # mean 100 and spread 10, with the border zone's own noise across the thresholds
    assert low == pytest.approx(120.0, abs=4.0)
    assert high == pytest.approx(150.0, abs=8.0)
    assert volume(block, scar.core) == pytest.approx(sphere(INNER), rel=0.5)
    away = np.linalg.norm(block.centroids() - CENTRE, axis=1)
    remote = away > OUTER + 3.0
    known = scar_from_intensity(block, lge[0], affine=lge[1], remote=remote)
    assert known.thresholds == (
        pytest.approx(120.0, abs=1.0),
        pytest.approx(150.0, abs=2.0),
    )
    # 2.3 % of normal noise lies above two standard deviations
    assert known.border[remote].mean() == pytest.approx(0.0228, abs=0.008)


def test_half_of_the_maximum(block, lge):
    scar = scar_from_intensity(block, lge[0], method="fwhm", affine=lge[1])
    assert scar.thresholds[1] == pytest.approx(150.0, abs=20.0)
    assert volume(block, scar.core) == pytest.approx(sphere(INNER), rel=0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core": 5}, r"no label \[5\]: its labels are \[0, 1\]"),
        ({"core": ()}, "no label for the core"),
        ({"affine": None}, "give its affine"),
        ({"affine": np.zeros((4, 4))}, "no inverse"),
        ({"affine": np.diag([1.0, 1.0, 1.0, 1.0]) + 0.0}, "covers .* of the mesh"),
    ],
)
def test_label_maps_that_cannot_be_used(block, change, message):
    affine, radius = image((1.0, 1.0, 1.0), 0.0)
    affine = affine.copy()
    if "affine" in change and change["affine"] is not None and change["affine"].any():
        change = {"affine": affine + np.array([[0, 0, 0, 300.0]] + [[0.0] * 4] * 3)}
    options = {"core": 1, "affine": affine} | change
    with pytest.raises(ValueError, match=message):
        scar_from_labels(block, (radius < INNER).astype(int), **options)


def test_intensities_that_cannot_be_used(block):
    affine, radius = image((1.0, 1.0, 1.0), 0.0)
    with pytest.raises(ValueError, match="shows no enhancement"):
        scar_from_intensity(block, np.full(radius.shape, 3.0), affine=affine)
    with pytest.raises(ValueError, match="'sd' or 'fwhm'"):
        scar_from_intensity(block, radius, border_sd=6.0, affine=affine)
    with pytest.raises(ValueError, match="remote has shape"):
        scar_from_intensity(block, radius, remote=np.ones(3, bool), affine=affine)


# --- what it does ------------------------------------------------------------------------------


def scarred(block):
    affine, radius = image()
    labels = np.where(radius < INNER, 1, np.where(radius < OUTER, 2, 0))
    return scar_from_labels(block, labels, core=1, border=2, affine=affine).on(block)


def test_diffusivity_is_scaled_by_the_shares(block):
    mesh = scarred(block)
    tissue = Tissue.by_region(mesh, fibres_from_mesh(mesh))
    conduction = ScarConduction(border_fibre=0.8, border_cross=0.2, core=1e-3)
    found = conduction.on(mesh, tissue)
    core, border = scar_shares(mesh)
    ratio = found.principal_diffusivity() / tissue.principal_diffusivity()
    np.testing.assert_allclose(ratio[:, 0], 1 - core - border + 0.8 * border + 1e-3 * core)
    np.testing.assert_allclose(ratio[:, 1], 1 - core - border + 0.2 * border + 1e-3 * core)
    np.testing.assert_allclose(found.intracellular / tissue.intracellular, ratio)
    np.testing.assert_array_equal(found.extracellular, tissue.extracellular)


def test_wave_runs_around_the_core():
    mesh = slab((24.0, 16.0, 1.0), 1.0)
    centre = mesh.centroids()
    core = (np.abs(centre[:, 0] - 12.0) < 3.0) & (np.abs(centre[:, 1] - 8.0) < 5.0)
    mesh = Scar(core.astype(float), np.zeros(mesh.elements)).on(mesh)
    tissue = Tissue.by_region(mesh, fibres_from_mesh(mesh))
    alike = np.full((mesh.elements, 3), 0.5)
    tissue = Tissue(tissue.fibres, alike, alike, chi=1.0, c_m=1.0)
    times = []
    for one in (tissue, ScarConduction().on(mesh, tissue)):
        stimulus = BoxStimulus((0, 0, 0), (1, 16, 1))
        problem = Monodomain(mesh, one, MitchellSchaeffer(), stimulus)
        observe = {"activation": ActivationTime(MitchellSchaeffer().activation_threshold)}
        # the consistent mass of the implicit step would carry a node at the corner of it along
        scheme = Godunov(ExplicitDiffusion())
        solution = solve(problem, 120.0, dt=0.1, scheme=scheme, observe=observe, every=120.0)
        times.append(np.asarray(solution.observed["activation"]))
    within = np.abs(mesh.points - [12.0, 8.0, 0.5]) < [2.1, 4.1, 1.0]
    deep = within.all(axis=1)
    assert np.isfinite(times[0]).all()
    assert not np.isfinite(times[1][deep]).any()
    edge = at_nodes(mesh, core.astype(float)) == 0.0
    assert np.isfinite(times[1][edge]).all()
    shadow = np.argmin(np.linalg.norm(mesh.points - [16.0, 8.0, 0.0], axis=1))
    assert times[1][shadow] > times[0][shadow] + 1.0


def test_border_zone_remodels_its_cells(block):
    mesh = scarred(block)
    cells = Cells(uniform="epi", border_zone={"g_Na": 0.38, "g_Kr": 0.3})
    healthy, cell = Cells(uniform="epi").reference(), cells.on(Anatomy(mesh))
    share = at_nodes(mesh, mesh.cell_data["border_zone"])
    np.testing.assert_allclose(cell.g_Na, healthy.g_Na * (1.0 - 0.62 * share))
    np.testing.assert_allclose(cell.g_Kr, healthy.g_Kr * (1.0 - 0.7 * share))
    assert share.max() > 0.9
    with pytest.raises(ValueError, match="no parameter 'g_X'"):
        Cells(border_zone={"g_X": 0.5})
    with pytest.raises(ValueError, match="give a factor"):
        Cells(border_zone={"g_Na": -0.5})


def test_tissue_without_scar_is_refused_early(block):
    heart = Anatomy(block)
    fibres = UniformFibres().on(heart)
    with pytest.raises(ValueError, match=r"no shares of scar.*cardiotwin twin"):
        Myocardium(scar=ScarConduction()).on(heart, fibres)
    bad = block.replaced(cell_data=block.cell_data | {"scar": np.full(block.elements, 2.0)})
    with pytest.raises(ValueError, match="expected one share from 0 to 1"):
        Myocardium(scar=ScarConduction()).on(Anatomy(bad), fibres)
    with pytest.raises(ValueError, match="border_cross is 0"):
        ScarConduction(border_cross=0.0)


def test_command_keeps_scar_in_the_twin(tmp_path, capsys):
    mesh = biventricle(3.2)
    write_mesh(tmp_path / "heart.vtu", mesh)
    low, high = mesh.points.min(axis=0) - 5.0, mesh.points.max(axis=0) + 5.0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = low
    shape = np.ceil((high - low) / 2.0).astype(int)
    place = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) * 2.0 + low
    wall = mesh.centroids()[mesh.regions == mesh.region_id("lv")][0]
    away = np.linalg.norm(place - wall, axis=-1)
    labels = np.where(away < 12.0, 1, np.where(away < 17.0, 2, 0)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "scar.nii.gz")
    words = ["twin", str(tmp_path / "heart.vtu"), "-o", str(tmp_path / "patient")]
    words += ["--scar", str(tmp_path / "scar.nii.gz")]
    assert main([*words, "--scar-labels", "1,x"]) == 2
    assert "give numbers: 1,2" in capsys.readouterr().err
    assert main([*words, "--scar-labels", "1,2"]) == 0
    assert "scar" in capsys.readouterr().out
    index = json.loads((tmp_path / "patient" / "twin.json").read_text())
    kept = load_twin(tmp_path / "patient")
    assert index["contents"]["scar_mL"] == pytest.approx(
        volume(kept.mesh, kept.mesh.cell_data["scar"]) / 1e3
    )
    assert index["contents"]["border_zone_mL"] > 0.1
    assert [s["file"] for s in index["provenance"]["sources"]] == ["heart.vtu", "scar.nii.gz"]
    twin_tissue = Myocardium(scar=ScarConduction())
    tissue = twin_tissue.on(kept, kept.fibres)
    assert twin_tissue.scarred(kept, tissue).principal_diffusivity().min() < 1e-4


def test_a_scar_that_does_not_conduct_as_one_is_said(block):
    twin = SimpleNamespace(mesh=block.replaced(cell_data={CORE: np.full(block.elements, 0.5)}))
    with pytest.warns(UserWarning, match="tissue=scarred"):
        warn_ignored_scar(SimpleNamespace(tissue=Myocardium()), twin, Journal(False))
    quiet = Journal(False)
    warn_ignored_scar(SimpleNamespace(tissue=Myocardium(scar=ScarConduction())), twin, quiet)
    assert not quiet.warnings
