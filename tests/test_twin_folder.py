"""A twin folder: what goes in comes out bit by bit, and what was changed is refused."""

import hashlib
import json

import jax
import nibabel
import numpy as np
import pytest
from blocks import assert_same
from omegaconf import open_dict
from phantom import phantom

from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.image_mesh import voxels_from_image
from cardiotwin.anatomy.purkinje_growth import grow_purkinje
from cardiotwin.anatomy.voxel_files import read_voxels
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.cli import main
from cardiotwin.config import build
from cardiotwin.config.compose import compose
from cardiotwin.ecg.thorax import place_electrodes
from cardiotwin.twin import (
    Anatomy,
    MeshFibres,
    PurkinjeRhythm,
    RuleBasedFibres,
    Twin,
    load_twin,
    save_twin,
)
from cardiotwin.twin.folder import INDEX, read_index

EDGE = 3.2  # mm


@pytest.fixture(scope="module")
def heart():
    """A heart with everything that a folder can hold."""
    bare = Anatomy(biventricle(EDGE))
    mesh = bare.mesh.replaced(
        cell_data={"scar": np.linspace(0.0, 1.0, bare.mesh.elements)},
        point_data={"measured": np.arange(bare.mesh.nodes, dtype=float)},
    )
    return Anatomy(
        mesh,
        fields=bare.fields,
        coordinates=bare.map.coordinates,
        fibres=RuleBasedFibres().on(bare),
        networks=grow_purkinje(mesh, fields=bare.fields),
        electrodes=place_electrodes(mesh),
    )


@pytest.fixture(scope="module")
def folder(heart, tmp_path_factory):
    here = tmp_path_factory.mktemp("twin")
    (here / "image.nii").write_bytes(b"voxels")
    return save_twin(
        here / "patient", heart, sources=[here / "image.nii"], options={"alpha_endo": 60.0}
    )


@pytest.fixture(scope="module")
def loaded(folder):
    return load_twin(folder)


def test_mesh_comes_back_bit_by_bit(heart, loaded):
    assert_same(heart.mesh, loaded.mesh, fields=False)
    before, after = heart.mesh.point_data["measured"], loaded.mesh.point_data["measured"]
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(heart.mesh.cell_data["scar"], loaded.mesh.cell_data["scar"])


def test_fibres_are_those_of_a_fresh_start(heart, loaded):
    fresh = ldrb(heart.mesh)
    for kept in (loaded.fibres, MeshFibres().on(loaded), RuleBasedFibres().on(loaded)):
        for axis in ("fibre", "sheet", "normal"):
            np.testing.assert_array_equal(getattr(kept, axis), getattr(fresh, axis))
        assert kept.replaced == fresh.replaced


def test_coordinates_come_back_and_nothing_is_worked_out_again(heart, loaded, monkeypatch):
    for name in ("ventricular_fields", "ventricular_coordinates"):
        monkeypatch.setattr(f"cardiotwin.twin.anatomy.{name}", None)
    for name in ("phi_epi", "phi_lv", "phi_rv", "transmural", "apicobasal", "interventricular"):
        np.testing.assert_array_equal(getattr(loaded.fields, name), getattr(heart.fields, name))
    np.testing.assert_array_equal(loaded.map.coordinates.values, heart.map.coordinates.values)
    np.testing.assert_array_equal(loaded.map.coordinates.side, heart.map.coordinates.side)
    np.testing.assert_array_equal(loaded.mesh.point_data["aha_segment"], heart.map.segments())


def test_electrodes_and_networks_come_back(heart, loaded):
    assert loaded.electrodes.names == heart.electrodes.names
    np.testing.assert_array_equal(loaded.electrodes.positions, heart.electrodes.positions)
    for before, after in zip(heart.networks, loaded.networks, strict=True):
        assert (before.side, before.root) == (after.side, after.root)
        np.testing.assert_array_equal(before.points, after.points)
        np.testing.assert_array_equal(before.edges, after.edges)
        np.testing.assert_array_equal(before.junctions, after.junctions)
    assert PurkinjeRhythm().system(loaded).networks == loaded.networks


def test_twin_is_assembled_from_the_folder(heart, loaded):
    fresh = Twin.assemble(heart.mesh)
    kept = Twin.assemble(loaded, fibres=MeshFibres())
    np.testing.assert_array_equal(kept.tissue.diffusion(), fresh.tissue.diffusion())
    for one, two in zip(
        kept.stimulus.pulses(kept.mesh.points),
        fresh.stimulus.pulses(fresh.mesh.points),
        strict=True,
    ):
        for leaf, other in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_array_equal(leaf, other)


def test_index_says_what_is_there_and_where_from(folder, heart):
    index = json.loads((folder / INDEX).read_text())
    assert index["provenance"]["options"] == {"alpha_endo": 60.0}
    (source,) = index["provenance"]["sources"]
    assert source["file"] == "image.nii"
    assert source["bytes"] == 6
    assert source["sha256"] == hashlib.sha256(b"voxels").hexdigest()
    assert index["contents"]["nodes"] == heart.mesh.nodes
    assert sum(index["contents"]["regions"].values()) * 1e3 == pytest.approx(heart.mesh.volume())
    assert set(index["files"]) == {p.name for p in folder.iterdir()} - {INDEX}


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["heart.vtu", "electrodes.json", "purkinje_rv.vtp"])
def test_changed_file_is_named(folder, name):
    path = folder / name
    before = path.read_bytes()
    try:
        path.write_bytes(before[:-1] + b"?")
        with pytest.raises(ValueError, match=rf"{name} was changed after the twin was made"):
            load_twin(folder)
        path.unlink()
        with pytest.raises(ValueError, match=rf"{name} is missing"):
            load_twin(folder)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: {**index, "version": 99}, "version 99.*update it"),
        (lambda index: {**index, "format": "else"}, "none of 'cardiotwin twin'"),
        (lambda index: [], "damaged"),
        (lambda index: {"format": "cardiotwin twin"}, "damaged"),
    ],
)
def test_index_that_cannot_be_read(folder, tmp_path, change, message):
    index = json.loads((folder / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps(change(index)))
    with pytest.raises(ValueError, match=message):
        load_twin(tmp_path)


def test_voxels_come_back_bit_by_bit(tmp_path, capsys):
    labels, affine = phantom()
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), affine), tmp_path / "labels.nii.gz")
    source, out = str(tmp_path / "labels.nii.gz"), tmp_path / "patient"
    assert main(["twin", source, "-o", str(out), "--voxels", "3"]) == 0
    assert "heart.npz" in capsys.readouterr().out
    made = Anatomy(voxels_from_image(source, spacing=3.0))
    fibres, found = RuleBasedFibres().on(made), load_twin(out)
    assert isinstance(found.mesh, Voxels)
    assert set(found.mesh.surfaces) == set(made.mesh.surfaces)
    for name in ("points", "cells", "regions"):
        np.testing.assert_array_equal(getattr(found.mesh, name), getattr(made.mesh, name))
    np.testing.assert_array_equal(found.fibres.fibre, fibres.fibre)
    np.testing.assert_array_equal(found.fields.apicobasal, made.fields.apicobasal)
    np.testing.assert_array_equal(found.map.coordinates.values, made.map.coordinates.values)
    np.testing.assert_array_equal(found.map.coordinates.side, made.map.coordinates.side)
    assert read_index(out)["contents"]["kind"] == "voxels"
    twin = Twin.assemble(found, fibres=MeshFibres())  # runs as it is
    assert twin.tissue.fibres is found.fibres
    (out / "heart.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"heart\.npz was changed"):
        load_twin(out)
    with pytest.raises(ValueError, match=r"heart\.npz: no voxels that can be read"):
        read_voxels(out / "heart.npz")
    assert (
        main(["twin", source, "-o", str(tmp_path / "b"), "--voxels", "3", "--fibres", "mesh"]) == 2
    )
    assert "--voxels takes the image as it is" in capsys.readouterr().err


def test_folder_that_is_no_twin(tmp_path):
    with pytest.raises(ValueError, match=r"is no twin folder.*cardiotwin twin heart.vtu"):
        load_twin(tmp_path)


def test_hearts_that_make_no_twin(tmp_path, heart):
    with pytest.raises(ValueError, match="has no fibres"):
        save_twin(tmp_path / "a", Anatomy(heart.mesh))
    with pytest.raises(ValueError, match="fibres are of"):
        Anatomy(slab((4.0, 4.0, 4.0), 2.0), fibres=heart.fibres)
    assert not list(tmp_path.iterdir())


def test_other_files_are_left_alone(tmp_path, heart):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        save_twin(tmp_path / "mine", heart, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        save_twin(tmp_path / "mine" / "notes.txt", heart)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_failure_leaves_the_old_twin(folder, heart, monkeypatch):
    before = (folder / INDEX).read_bytes()
    with pytest.raises(ValueError, match="--overwrite"):
        save_twin(folder, heart)

    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr("cardiotwin.twin.folder.write_electrodes", fail)
    with pytest.raises(OSError, match="no room"):
        save_twin(folder, heart, overwrite=True)
    assert (folder / INDEX).read_bytes() == before
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []
    load_twin(folder)


# --- the command ------------------------------------------------------------------------------


def test_command_and_run(tmp_path, heart, capsys):
    write_mesh(tmp_path / "heart.vtu", heart.mesh)
    out = tmp_path / "patient"
    words = [str(tmp_path / "heart.vtu"), "-o", str(out), "--angles", "50,-50,0,0"]
    assert main(["twin", *words]) == 0
    assert "electrodes" in capsys.readouterr().out
    assert main(["twin", *words]) == 2
    assert "holds a twin" in capsys.readouterr().err
    assert main(["twin", *words, "--overwrite", "--fibres", "mesh"]) == 2
    assert "no cell data 'fibre'" in capsys.readouterr().err
    again = [*words[:-1], "50", "--overwrite"]
    assert main(["twin", *again]) == 2
    assert "alpha_endo, alpha_epi" in capsys.readouterr().err
    index = json.loads((out / INDEX).read_text())
    assert index["provenance"]["options"]["angles_degrees"]["alpha_endo"] == 50.0
    config = compose(["experiment=twin", f"mesh.path={out}"])
    with open_dict(config):
        config.pop("hydra")
    experiment = build(config)
    twin = experiment.twin()
    fresh = ldrb(heart.mesh, alpha_endo=50.0, alpha_epi=-50.0, beta_endo=0.0, beta_epi=0.0)
    np.testing.assert_array_equal(twin.tissue.fibres.fibre, fresh.fibre)
    kept = twin.anatomy.electrodes
    assert experiment.leads.electrodes(twin.mesh, kept) is kept


def test_mesh_without_surfaces_is_no_twin(tmp_path, capsys):
    write_mesh(tmp_path / "slab.vtu", slab((40.0, 40.0, 20.0), 10.0))
    assert main(["twin", str(tmp_path / "slab.vtu"), "-o", str(tmp_path / "patient")]) == 2
    assert "a twin needs the surfaces epi" in capsys.readouterr().err
    assert not (tmp_path / "patient").exists()
    assert read_mesh(tmp_path / "slab.vtu").nodes
