"""From an image of labels to a heart: each step on a phantom, every bad input, a real image."""

import re

import nibabel
import nrrd
import numpy as np
import pytest
from phantom import LV, TABLE, TOP, WALL, part_volume, phantom

from cardiotwin._resources import label_tables
from cardiotwin.anatomy._image_checks import handedness
from cardiotwin.anatomy._label_cleaning import RefusedImage
from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.image_mesh import (
    heart_mesh,
    heart_voxels,
    mesh_from_image,
    voxels_from_heart,
    voxels_from_image,
)
from cardiotwin.anatomy.imaging import (
    HeartImage,
    heart_from_labels,
    read_label_image,
    write_heart,
)
from cardiotwin.anatomy.label_table import Part, choose_table, read_label_table
from cardiotwin.anatomy.naming import VALVE_PLACES, VALVES
from cardiotwin.anatomy.quality import quality
from cardiotwin.anatomy.topology import areas
from cardiotwin.cli import main
from cardiotwin.results.image_picture import draw_labels

SPACING = 2.0
SURFACES = {"epi", "endo_lv", "endo_rv", "base"}
WITH_VALVES = SURFACES | set(VALVES)


def heart(labels, affine, table=TABLE, **options):
    return heart_from_labels(labels, table, affine=affine, **{"spacing": SPACING, **options})


@pytest.fixture(scope="module")
def plain() -> HeartImage:
    return heart(*phantom())


@pytest.fixture(scope="module")
def mesh(plain):
    return heart_mesh(plain, 2.5)


def save(path, labels, affine, unit="mm"):
    image = nibabel.Nifti1Image(labels.astype(np.int16), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


# Cleaning.


@pytest.mark.parametrize("spacing", [1.0, 1.7, 3.0])
def test_volumes_are_kept(spacing):
    found = heart(*phantom(), spacing=spacing).volumes
    assert found.keys() == {"lv_wall", "lv_cavity", "rv_cavity"}
    for before, after in found.values():
        assert after == pytest.approx(before, rel=0.02)


def test_specks_are_removed_and_holes_filled(plain):
    labels, affine = phantom()
    labels[1:3, 1:3, 1:3] = TABLE["lv_wall"]
    wall = np.argwhere(labels == TABLE["lv_wall"])
    middle = wall[len(wall) // 2]
    labels[tuple(middle)] = 0
    found = heart(labels, affine)
    assert any("1 smaller pieces removed, 27 mm3" in note for note in found.notes)
    assert any("holes of 3 mm3 filled" in note for note in found.notes)
    assert part_volume(found, Part.LV_WALL) == pytest.approx(
        part_volume(plain, Part.LV_WALL), rel=0.01
    )


def test_units_and_turned_axes(tmp_path, plain):
    """The heart lies where the affine says, however the axes run and in whatever unit."""
    labels, affine = phantom()
    turn = np.zeros((4, 4))
    turn[[0, 1, 2, 3], [1, 0, 2, 3]] = 1.0  # x and y exchanged: left-handed
    turned = np.diag([1e-3] * 3 + [1.0]) @ affine @ turn
    path = save(tmp_path / "heart.nii.gz", labels.transpose(1, 0, 2), turned, "meter")
    found = heart(path, None)
    assert any("left-handed" in note for note in found.notes)
    for part in (Part.LV_CAVITY, Part.RV_WALL):
        middles = [
            np.argwhere(h.parts == part).mean(axis=0) @ h.affine[:3, :3].T + h.affine[:3, 3]
            for h in (found, plain)
        ]
        np.testing.assert_allclose(*middles, atol=0.2)


def test_nrrd_is_read_like_nifti(tmp_path):
    labels, affine = phantom()
    flip = np.diag([-1.0, -1.0, 1.0])
    header = {
        "space": "left-posterior-superior",
        "space directions": (flip @ affine[:3, :3]).T,
        "space origin": flip @ affine[:3, 3],
    }
    nrrd.write(str(tmp_path / "heart.nrrd"), labels, header)
    one = read_label_image(tmp_path / "heart.nrrd")
    other = read_label_image(save(tmp_path / "heart.nii", labels, affine))
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in ("corner", "axes", "edges"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6)


def test_thick_slices_leave_no_terraces():
    labels, affine = phantom(1.0, vessels=False)
    affine[:3, 2] *= 8.0
    affine[2, 3] += 4.0
    found = heart(labels[:, :, 4::8], affine)
    for before, after in found.volumes.values():
        assert after == pytest.approx(before, rel=0.02)
    made = heart_mesh(found, 2.8)
    endo = made.points[np.unique(made.surfaces["endo_lv"])]
    endo = endo[endo[:, 2] < 5.0]
    off = (np.sqrt(((endo / LV) ** 2).sum(axis=1)) - 1.0) * LV[0]
    assert np.quantile(np.abs(off), 0.95) < 1.8  # mm, a terrace is 4 mm and more


# Walls and openings.


@pytest.mark.parametrize("thickness", [3.0, 4.5])
def test_thickness_of_the_grown_wall(thickness):
    """The wall's volume is that of the shell around the right cavity, which is open above."""
    found = heart(*phantom(1.0), spacing=1.0, rv_wall=thickness)
    mesh = heart_mesh(found, 2.0)
    endo, epi = (mesh.points[mesh.surfaces[name]].mean(axis=1) for name in ("endo_rv", "epi"))
    free = endo[(endo[:, 0] > 30.0) & (np.abs(endo[:, 2]) < 10.0)]
    outer = epi[epi[:, 0] > 20.0]
    gap = np.linalg.norm(free[:, None] - outer, axis=2).min(axis=1)
    assert np.median(gap) == pytest.approx(thickness, abs=0.35)


def test_wall_grows_into_nothing_that_is_labelled(plain):
    before = {p: v[1] for p, v in plain.volumes.items()}
    assert part_volume(plain, Part.LV_CAVITY) == pytest.approx(before["lv_cavity"])
    assert part_volume(plain, Part.RV_CAVITY) == pytest.approx(before["rv_cavity"])
    assert part_volume(plain, Part.LV_WALL) + part_volume(plain, Part.SEPTUM) == pytest.approx(
        before["lv_wall"], rel=0.02
    )


def test_a_labelled_right_wall_is_kept():
    labels, affine = phantom(right_wall=5.0)
    found = heart(labels, affine, TABLE | {"rv_wall": 8})
    assert not any("grown" in note for note in found.notes)
    before, after = found.volumes["rv_wall"]
    assert after == pytest.approx(before, rel=0.02)


def test_gaps_at_the_valves_are_closed():
    labels, affine = phantom(1.0)
    height = affine[2, 3] + np.arange(labels.shape[2])
    labels[:, :, (height > TOP) & (height < TOP + 3)] = 0
    found = heart(labels, affine, spacing=1.0)
    assert not any("plane" in note for note in found.notes)
    assert {"base"} <= heart_mesh(found, 2.5).surfaces.keys()


def test_base_is_cut_where_there_are_no_vessels():
    found = heart(*phantom(vessels=False))
    assert any("base cut by a plane" in note for note in found.notes)
    made = heart_mesh(found, 2.5)
    assert made.surfaces.keys() == SURFACES
    base = made.points[np.unique(made.surfaces["base"])]
    assert base[:, 2].max() - np.median(base[:, 2]) < 2.0
    assert base[:, 2].min() > TOP - 12.0
    assert heart_axes(made).apex_to_base[2] > 0.98


def test_cavities_of_a_bare_wall_are_found():
    labels, affine = phantom(vessels=False, right_wall=5.0)
    bare = np.isin(labels, (TABLE["lv_wall"], 8)).astype(np.int16)
    found = heart(bare, affine, {"myocardium": 1})
    for part, label in ((Part.LV_CAVITY, "lv_cavity"), (Part.RV_CAVITY, "rv_cavity")):
        true = float((labels == TABLE[label]).sum() * 1.5**3)
        assert 0.7 * true < part_volume(found, part) < 1.05 * true
    assert heart_mesh(found, 2.5).surfaces.keys() == SURFACES


def test_septum_lies_between_the_cavities(mesh):
    names = dict(mesh.region_names)
    assert set(names.values()) == {"lv", "rv", "septum"}
    centre = mesh.centroids()
    septum = centre[mesh.regions == mesh.region_id("septum")]
    assert (septum[:, 0] > 0).all()
    free = centre[mesh.regions == mesh.region_id("lv")]
    assert (np.abs(np.degrees(np.arctan2(free[:, 1], free[:, 0]))) > 20)[free[:, 2] > 0].all()
    assert np.mean(mesh.regions == mesh.region_id("rv")) > 0.15


# Surfaces.


def test_surfaces_cover_the_boundary_and_lie_where_they_should(mesh):
    assert mesh.surfaces.keys() == WITH_VALVES
    assert sum(len(mesh.surfaces[k]) for k in SURFACES) == len(mesh.boundary_faces())
    for valve, (endocardium, _) in VALVE_PLACES.items():
        ring = mesh.surfaces[valve]
        assert np.isin(ring, mesh.surfaces["base"]).all()
        assert np.isin(ring, mesh.surfaces[endocardium]).any(axis=1).all()
    middle = {k: mesh.points[f].mean(axis=1) for k, f in mesh.surfaces.items()}
    radius = np.sqrt(((middle["endo_lv"] / LV) ** 2).sum(axis=1))
    assert np.quantile(np.abs(radius - 1.0), 0.95) < 0.08
    assert middle["base"][:, 2].min() > TOP - 7.0
    left = middle["epi"][middle["epi"][:, 0] < -5.0]
    radius = np.sqrt(((left / (LV + WALL)) ** 2).sum(axis=1))
    assert np.quantile(np.abs(radius - 1.0), 0.9) < 0.08
    exact = _spheroid_area(LV, TOP)
    assert areas(mesh.points, mesh.surfaces["endo_lv"]).sum() == pytest.approx(exact, rel=0.06)


def _spheroid_area(axes, top):
    """Area of an ellipsoid of revolution about z below the plane z = top, by quadrature."""
    z = np.linspace(-axes[2], top, 20001)
    radius = axes[0] * np.sqrt(np.clip(1 - (z / axes[2]) ** 2, 0, None))
    steps = np.hypot(np.diff(z), np.diff(radius))
    return float((np.pi * (radius[1:] + radius[:-1]) * steps).sum())


def test_tetrahedra_are_sound(plain, mesh):
    found = quality(mesh)
    assert found.slivers == 0
    assert mesh.volume() == pytest.approx(
        sum(part_volume(plain, p) for p in (Part.LV_WALL, Part.RV_WALL, Part.SEPTUM)), rel=0.02
    )
    edges = mesh.points[mesh.unique_edges()]
    mean = np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1).mean()
    assert mean == pytest.approx(2.5, rel=0.03)


def test_fibres_by_rule(mesh):
    fibre = ldrb(mesh).fibre
    np.testing.assert_allclose(np.linalg.norm(fibre, axis=1), 1.0, atol=1e-9)


def test_too_long_edges_are_told(plain):
    with pytest.warns(UserWarning, match="away from the base.*shorter edge length"):
        heart_mesh(plain, 4.0)


def test_voxels_have_the_same_surfaces(plain, mesh, tmp_path):
    voxels = heart_voxels(plain)
    assert voxels.surfaces.keys() == WITH_VALVES
    assert voxels.volume() == pytest.approx(mesh.volume(), rel=0.02)
    share = {k: len(f) / len(voxels.boundary_faces()) for k, f in voxels.surfaces.items()}
    other = {k: len(f) / len(mesh.boundary_faces()) for k, f in mesh.surfaces.items()}
    for name, value in share.items():
        assert value == pytest.approx(other[name], abs=0.06)
    write_heart(tmp_path / "heart.nii.gz", plain)
    again = voxels_from_heart(tmp_path / "heart.nii.gz")
    np.testing.assert_allclose(again.points, voxels.points, atol=1e-4)
    for name, faces in voxels.surfaces.items():
        np.testing.assert_array_equal(again.surfaces[name], faces)


def test_scar_is_kept_as_a_share():
    labels, affine = phantom()
    place = np.argwhere(labels == TABLE["lv_wall"])
    scar = place[(place[:, 0] < 12) & (place[:, 2] > 20)]
    labels[tuple(scar.T)] = 9
    found = heart(labels, affine, TABLE | {"scar": 9})
    made = heart_mesh(found, 2.5)
    share = made.cell_data["scar"]
    assert share.min() >= 0.0
    assert share.max() <= 1.0 + 1e-6
    assert (share * made.volumes()).sum() == pytest.approx(len(scar) * 1.5**3, rel=0.1)


# Bad input.


def test_mirrored_heart_is_refused():
    labels, affine = phantom()
    assert handedness(heart(labels, affine).grid) > 0.9
    with pytest.raises(ValueError, match=r"mirrored.*flip one axis back"):
        heart(labels[:, ::-1], affine)


def test_mirrored_heart_without_valves_is_doubted():
    labels, affine = phantom(vessels=False)
    turn = np.diag([-1.0, -1.0, 1.0])
    tilt = np.array([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]])  # up leans to the left
    affine[:3] = turn @ tilt @ affine[:3]
    with pytest.warns(UserWarning, match="apex points to the patient's right"):
        heart(labels, affine)


def test_swapped_ventricles_are_refused():
    swapped = TABLE | {"lv_cavity": TABLE["rv_cavity"], "rv_cavity": TABLE["lv_cavity"]}
    with pytest.raises(ValueError, match=r"seem swapped; exchange lv_cavity and rv_cavity"):
        heart(*phantom(), swapped)


def pierced() -> tuple[np.ndarray, np.ndarray]:
    """A heart whose cavities meet in the septum."""
    labels, affine = phantom()
    middle = [int(n) for n in np.rint((-affine[:3, 3] + [19.0, 0.0, 0.0]) / 1.5)]
    box = tuple(slice(m - 6, m + 7) for m in middle)
    gap = labels[box]
    left = np.arange(gap.shape[0])[:, None, None] < 6
    wall = gap == TABLE["lv_wall"]
    gap[wall & left] = TABLE["lv_cavity"]
    gap[wall & ~left] = TABLE["rv_cavity"]
    return labels, affine


def test_hole_in_the_septum_is_refused():
    with pytest.raises(ValueError, match=r"septum has a hole: both cavities touch on \d+ mm2"):
        heart(*pierced())


def test_refused_images_are_drawn(tmp_path, capsys):
    labels, affine = pierced()
    path = save(tmp_path / "labels.nii.gz", labels, affine)
    assert main(["mesh", str(path), "-o", str(tmp_path / "heart.vtu"), "--spacing", "2"]) == 2
    said = capsys.readouterr().err
    assert "labels.nii.gz: the septum has a hole" in said
    assert "Look at it: " in said
    picture = tmp_path / "heart_refused.png"
    assert picture.stat().st_size > 10_000
    assert not (tmp_path / "heart.vtu").exists()
    two = save(tmp_path / "two.nii.gz", np.concatenate([labels, labels]), affine)
    words = ["-o", str(tmp_path / "two.vtu"), "--picture", str(tmp_path / "look.png")]
    assert main(["mesh", str(two), *words]) == 2
    assert "two hearts" in capsys.readouterr().err
    assert (tmp_path / "look.png").stat().st_size > 10_000


def test_sections_cross_where_it_shows(tmp_path):
    image = read_label_image(phantom()[0], affine=phantom()[1])
    with pytest.raises(RefusedImage) as refused:
        heart(*pierced())
    place = refused.value.place
    index = image.axes @ (place - image.corner) / image.edges
    assert (np.abs(index.astype(int) - np.array(image.labels.shape) / 2) < 20).all()
    assert image.labels[tuple(index.astype(int))] == TABLE["lv_wall"]  # where there was muscle
    drawn = draw_labels(tmp_path / "a.png", image, {k: (v,) for k, v in TABLE.items()}, place)
    assert drawn.stat().st_size > 10_000


def test_two_hearts_are_refused():
    labels, affine = phantom()
    with pytest.raises(ValueError, match=r"lies in two pieces of .* two hearts"):
        heart(np.concatenate([labels, labels]), affine)


def test_sheared_image_is_refused():
    labels, affine = phantom()
    affine[0, 2] = 0.3
    with pytest.raises(ValueError, match="sheared"):
        heart(labels, affine)


def test_empty_and_unknown_labels_are_named():
    labels, affine = phantom()
    with pytest.raises(ValueError, match="image is empty"):
        heart(np.zeros_like(labels), affine)
    labels[0, 0, :5] = 77
    with pytest.raises(ValueError, match=r"77 \(5 voxels\).*another table"):
        heart(labels, affine)
    with pytest.raises(ValueError, match="no voxel is muscle"):
        heart(np.where(labels == 3, 3, 0), affine)
    with pytest.raises(ValueError, match="no right ventricle"):
        heart(np.where(np.isin(labels, (1, 2, 3, 6)), labels, 0), affine)
    assert heart(labels, affine, TABLE | {"outside": 77}).volumes


def test_wrong_unit_and_missing_affine_are_told(tmp_path):
    labels, affine = phantom()
    with pytest.raises(ValueError, match="no heart: the affine seems to be missing"):
        heart(labels, np.diag([1e-2, 1e-2, 1e-2, 1.0]) @ affine)
    image = nibabel.Nifti1Image(labels[::-1], None)  # nibabel then takes x to run leftwards
    nibabel.save(image, tmp_path / "bare.nii")
    with pytest.warns(UserWarning, match="neither where its voxels lie.*--voxel"):
        heart(tmp_path / "bare.nii", None)
    with pytest.raises(ValueError, match="mirrored"):  # as the array stands
        heart(tmp_path / "bare.nii", None, voxel=1.5)
    found = heart(labels, None, voxel=1.5)
    assert found.volumes["lv_cavity"][0] == pytest.approx((labels == 3).sum() * 1.5**3)


def test_dicom_is_refused_with_the_way_to_convert(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    for path in (series, series / "IM0001", tmp_path / "one.dcm"):
        (tmp_path / "one.dcm").write_bytes(b"")
        with pytest.raises(ValueError, match=r"is DICOM.*3D Slicer.*dcm2niix"):
            read_label_image(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_label_image(tmp_path / "empty")
    with pytest.raises(ValueError, match="no image"):
        read_label_image(tmp_path / "absent.nii")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lv_wal: 1", "did you mean 'lv_wall'"),
        ("lv_wall: one", "no whole number"),
        ("lv_wall: 1\nla: 1", "label 1 is both lv_wall and la"),
        ("la: 2", "no label of muscle"),
        ("", "no entries"),
        ("lv_wall: [1", "no YAML"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_label_table(tmp_path / "table.yaml")


def test_tables_that_are_installed():
    tables = {name: read_label_table(path) for name, path in label_tables().items()}
    assert {"ct", "mmwhs", "acdc", "cardiotwin"} <= tables.keys()
    assert choose_table(np.array([[[0, 1, 2, 3, 4, 5, 6, 7]]]), tables) == "ct"
    assert choose_table(np.array([[[0, 1, 2, 3]]]), tables) == "acdc"
    with pytest.raises(ValueError, match=r"\[1, 2\] mean.*acdc or .*--labels"):
        choose_table(np.array([[[1, 2]]]), tables)
    standard = {part.name.lower(): (part.value,) for part in Part if part}
    assert tables["cardiotwin"] == standard


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0.0}, "spacing must be a positive length"),
        ({"rv_wall": -1.0}, "rv_wall is -1.0"),
        ({"spacing": 0.01}, "use a longer spacing"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        heart(*phantom(), **options)


# The command.


def test_command_makes_a_mesh_and_a_picture(tmp_path, capsys):
    path = save(tmp_path / "labels.nii.gz", *phantom())
    out, picture = tmp_path / "heart.vtu", tmp_path / "heart.png"
    words = ["--edge-length", "2.5", "--spacing", "2", "--picture", str(picture)]
    assert main(["mesh", str(path), "-o", str(out), *words]) == 0
    text = capsys.readouterr().out
    assert "label table ct" in text
    assert "every element has one" in text
    assert re.search(r"surfaces +epi [\d.]+ cm2", text)
    assert picture.stat().st_size > 20_000
    assert main(["info", str(out)]) == 0
    assert "endo_rv" in capsys.readouterr().out
    # mesh=image of a configuration makes the same without a file between
    same = mesh_from_image(path, edge_length=2.5, spacing=2.0)
    assert np.array_equal(same.points, read_mesh(out).points)
    voxels = voxels_from_image(path, labels="ct", spacing=2.0)
    assert voxels.surfaces.keys() == WITH_VALVES
    with pytest.raises(ValueError, match="neither a file nor one of acdc"):
        voxels_from_image(path, labels="nothing")


def test_command_refuses_early(tmp_path, capsys):
    path = save(tmp_path / "labels.nii.gz", *phantom())
    assert main(["mesh", str(path), "-o", str(tmp_path / "heart.png")]) == 2
    assert ".vtu" in capsys.readouterr().err
    assert main(["mesh", str(path), "--labels", "nothing"]) == 2
    assert "neither a file nor one of" in capsys.readouterr().err
    assert main(["mesh", str(path), "--voxel", "1,2"]) == 2
    assert "one length in mm or three" in capsys.readouterr().err
    assert main(["mesh", str(path), "--surfaces", "base"]) == 2
    assert "endo_rv=4" in capsys.readouterr().err
    assert main(["mesh", str(path), "-o", str(tmp_path / "a" / "heart.vtu")]) == 2
    assert "make it first" in capsys.readouterr().err


@pytest.mark.realdata
def test_whole_heart_from_ct(data, tabulate):
    """HeartDeformNets' example at 2.5 mm: image to fibres."""
    table = label_tables()["ct"]
    found = heart_from_labels(data / "ct-labels" / "wh.nii.gz", table, spacing=2.0)
    for name, (before, after) in found.volumes.items():
        tabulate("ct-labels at 2 mm", part=name, image=before / 1e3, heart=after / 1e3)
        assert after == pytest.approx(before, rel=0.02)
    assert handedness(found.grid) > 0.8
    made = heart_mesh(found, 2.5)
    assert made.surfaces.keys() == WITH_VALVES
    assert quality(made).slivers == 0
    fibres = ldrb(made)
    np.testing.assert_allclose(np.linalg.norm(fibres.fibre, axis=1), 1.0, atol=1e-9)
    axes = heart_axes(made)
    assert axes.apex_to_base @ [1, 0, 0] > 0.2  # RAS: the apex points left and down
    assert axes.apex_to_base @ [0, 0, 1] > 0.2
