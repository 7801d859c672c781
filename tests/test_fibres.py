"""Laplace solutions, heart axes and material directions, by rule and from files."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cardiotwin.anatomy._frames import bislerp
from cardiotwin.anatomy.coordinates import VentricularFields, heart_axes, ventricular_fields
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh, helix_angle, ldrb
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import element_faces
from cardiotwin.numerics.elliptic import solve_laplace
from cardiotwin.numerics.fem import mass_matrix, stiffness_matrix

APEX = 0.15  # apicobasal below which the apex begins


def element_mean(mesh, field):
    return field[mesh.cells].mean(axis=1)


def angle_between_lines(a, b):
    """Degrees from 0 to 90 between directions without a sign."""
    return np.degrees(np.arccos(np.clip(np.abs(np.einsum("ei,ei->e", a, b)), 0.0, 1.0)))


def angle_difference(a, b):
    """Degrees from 0 to 90 between angles that mean the same after half a turn."""
    return np.abs((a - b + 90.0) % 180.0 - 90.0)


def neighbours(cells):
    """Pairs of elements that share a face."""
    keys = element_faces(cells).keys
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return order[same] % len(cells), order[same + 1] % len(cells)


def walls(mesh, fields):
    """Masks of the left free wall, the right one, the septum and the junctions, off the apex."""
    across = 1.0 - element_mean(mesh, fields.interventricular)
    outer = element_mean(mesh, fields.phi_epi)
    off_apex = element_mean(mesh, fields.apicobasal) > APEX
    left, right = across < 0.02, across > 0.98
    septum = ~left & ~right & (outer < 0.05)
    junction = ~left & ~right & ~septum
    return {
        "left": left & off_apex,
        "right": right & off_apex,
        "septum": septum & off_apex,
        "junction": junction,
        "off_apex": off_apex,
    }


def helix_in_fields(mesh, fibre, fields):
    """Helix angle about the field's own longitudinal direction, from gradients of each element."""
    up = unit(gradient(mesh, fields.apicobasal))
    left = (element_mean(mesh, fields.interventricular) >= 0.5)[:, None]
    outward = -np.where(left, gradient(mesh, fields.phi_lv), gradient(mesh, fields.phi_rv))
    outward = unit(outward - up * np.einsum("ei,ei->e", up, outward)[:, None])
    around = np.cross(up, outward)
    return np.degrees(
        np.arctan2(np.einsum("ei,ei->e", fibre, up), np.einsum("ei,ei->e", fibre, around))
    )


def gradient(mesh, field):
    from cardiotwin.numerics.fem import p1_geometry

    return np.einsum("eai,ea->ei", p1_geometry(mesh.points, mesh.cells)[0], field[mesh.cells])


def unit(vectors):
    """Normalised; zero stays zero (the gradient in an element with all nodes on the base)."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


def prescription(mesh, fields, endo=60.0, epi=-60.0):
    """Helix angle the rule asks for, outward from the nearer cavity."""
    depth = element_mean(mesh, fields.phi_epi)
    across = 1.0 - element_mean(mesh, fields.interventricular)
    return np.abs(1.0 - 2.0 * across) * ((1.0 - depth) * endo + depth * epi)


@pytest.fixture(scope="module")
def heart():
    return biventricle(2.8)


@pytest.fixture(scope="module")
def fields(heart):
    return ventricular_fields(heart)


@pytest.fixture(scope="module")
def fibres(heart, fields):
    return ldrb(heart, fields=fields)


# -- Laplace problems ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def block():
    return slab((2.0, 1.0, 1.0), 0.25, "bcc")


def test_linear_solutions_are_exact(block):
    stiffness = stiffness_matrix(block.points, block.cells)
    ends = [np.unique(block.surfaces[name]) for name in ("x0", "x1")]
    nodes = np.concatenate(ends)
    values = np.stack([block.points[nodes, 0], 1.0 - block.points[nodes, 0]], axis=1)
    solution = solve_laplace(stiffness, nodes, values, tolerance=1e-12)
    x = block.points[:, 0]
    np.testing.assert_allclose(solution, np.stack([x, 1.0 - x], axis=1), atol=1e-10)


def test_source_gives_the_parabola():
    """Linear elements are exact at the nodes here: the solution varies along one axis only."""
    mesh = slab((1.0, 0.5, 0.5), 0.125)
    source = np.asarray(mass_matrix(mesh.points, mesh.cells).sum(axis=1)).ravel()
    ends = np.unique(np.concatenate([mesh.surfaces["x0"], mesh.surfaces["x1"]]))
    stiffness = stiffness_matrix(mesh.points, mesh.cells)
    solution = solve_laplace(stiffness, ends, np.zeros(len(ends)), source=source)
    x = mesh.points[:, 0]
    np.testing.assert_allclose(solution, 0.5 * x * (1.0 - x), atol=1e-8)


def test_solution_does_not_depend_on_random_numbers(block):
    stiffness = stiffness_matrix(block.points, block.cells)
    nodes = np.array([0, len(block.points) - 1])
    first = solve_laplace(stiffness, nodes, np.array([0.0, 1.0]))
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(first, solve_laplace(stiffness, nodes, np.array([0.0, 1.0])))


def test_laplace_refuses(block):
    stiffness = stiffness_matrix(block.points, block.cells)
    with pytest.raises(ValueError, match="no node has a given value"):
        solve_laplace(stiffness, np.array([], int), np.array([]))
    with pytest.raises(ValueError, match="different indices"):
        solve_laplace(stiffness, np.array([1, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="one finite value for each of 2"):
        solve_laplace(stiffness, np.array([0, 1]), np.zeros(3))
    with pytest.raises(RuntimeError, match="stopped after 1 iterations"):
        solve_laplace(stiffness, np.array([0, 100]), np.array([0.0, 1.0]), max_iterations=1)
    apart = slab((1.0, 1.0, 1.0), 0.5)
    points = np.concatenate([apart.points, apart.points + 5.0])
    cells = np.concatenate([apart.cells, apart.cells + len(apart.points)])
    with pytest.raises(ValueError, match="1 of 2 connected parts"):
        solve_laplace(stiffness_matrix(points, cells), np.array([0, 1]), np.zeros(2))


# -- Ventricular fields and axes -------------------------------------------------------------------


def test_fields_take_their_boundary_values(heart, fields):
    values = {"phi_epi": (1, 0, 0), "phi_lv": (0, 1, 0), "phi_rv": (0, 0, 1)}
    values["transmural"] = (1, 0, 0)
    for name, expected in values.items():
        field = getattr(fields, name)
        assert field.min() >= 0.0
        assert field.max() <= 1.0
        for surface, value in zip(("epi", "endo_lv", "endo_rv"), expected, strict=True):
            np.testing.assert_allclose(
                field[np.unique(heart.surfaces[surface])], value, atol=1e-12, err_msg=name
            )
    np.testing.assert_allclose(fields.phi_epi + fields.phi_lv + fields.phi_rv, 1.0, atol=1e-9)
    np.testing.assert_allclose(fields.apicobasal[np.unique(heart.surfaces["base"])], 1.0)
    assert fields.apicobasal.min() == 0.0


def test_transmural_has_endocardium_on_both_sides_of_the_septum(heart, fields):
    inside = walls(heart, fields)["septum"]
    depth = element_mean(heart, fields.transmural)[inside]
    assert 0.4 < depth.max() < 0.6
    right = 1.0 - element_mean(heart, fields.interventricular)[inside]
    assert depth[right < 0.15].max() < 0.3
    assert depth[right > 0.85].max() < 0.3


def test_apicobasal_grows_with_distance(heart, fields):
    """On the left endocardium: arc length along the meridian of the ellipsoid over its whole."""
    nodes = np.unique(heart.surfaces["endo_lv"])
    lateral = nodes[heart.points[nodes, 0] > 5.0]
    latitude = np.linspace(0.0, np.pi, 4001)
    r, z = 25.0 * np.sin(latitude), -65.0 * np.cos(latitude)
    arc = np.concatenate([[0.0], np.hypot(np.diff(r), np.diff(z)).cumsum()])
    wanted = np.interp(heart.points[lateral, 2], z, arc) / np.interp(17.0, z, arc)
    np.testing.assert_allclose(fields.apicobasal[lateral], wanted, atol=0.12)
    assert np.corrcoef(fields.apicobasal[lateral], wanted)[0, 1] > 0.995


def test_axes_of_the_idealised_heart(heart):
    axes = heart_axes(heart)
    np.testing.assert_allclose(axes.apex_to_base, [0, 0, 1], atol=0.01)
    np.testing.assert_allclose(axes.lv_to_rv, [-1, 0, 0], atol=0.01)
    np.testing.assert_allclose(axes.third, [0, -1, 0], atol=0.01)
    np.testing.assert_allclose(axes.origin, [0, 0, -24.0], atol=0.5)


def moved(mesh, rotation):
    """The mesh turned and shifted."""
    points = rotation.apply(mesh.points) + np.array([10.0, -20.0, 30.0])
    return Mesh(
        points, mesh.cells, mesh.regions, surfaces=mesh.surfaces, region_names=mesh.region_names
    )


def test_axes_and_fibres_turn_with_the_heart():
    mesh = biventricle(4.0, shape=BiventricleShape(rv_wall=5.0))
    rotation = Rotation.from_rotvec([0.7, -1.1, 0.4])
    turned = moved(mesh, rotation)
    for before, after in zip(heart_axes(mesh)[1:], heart_axes(turned)[1:], strict=True):
        np.testing.assert_allclose(rotation.apply(before), after, atol=1e-9)
    before, after = ldrb(mesh), ldrb(turned)
    off = angle_between_lines(rotation.apply(before.fibre), after.fibre)
    assert np.quantile(off, 0.999) < 0.5  # where frames are ill-defined, rounding decides
    assert np.median(off) < 1e-3


@pytest.mark.parametrize("missing", ["epi", "endo_lv", "endo_rv", "base"])
def test_fields_need_all_surfaces(heart, missing):
    surfaces = {name: faces for name, faces in heart.surfaces.items() if name != missing}
    mesh = Mesh(heart.points, heart.cells, surfaces=surfaces)
    with pytest.raises(ValueError, match=f"no surface '{missing}'"):
        ventricular_fields(mesh)


def test_axes_refuse_a_closed_cavity_and_exchanged_labels(heart):
    inner = biventricle(3.2)
    closed = {**inner.surfaces, "endo_lv": np.concatenate(list(inner.surfaces.values()))}
    with pytest.raises(ValueError, match="is closed"):
        heart_axes(Mesh(inner.points, inner.cells, surfaces=closed))
    low = heart.points[heart.surfaces["endo_lv"]][:, :, 2].max(axis=1) < -30.0
    stacked = {"endo_lv": heart.surfaces["endo_lv"], "endo_rv": heart.surfaces["endo_lv"][low]}
    with pytest.raises(ValueError, match="on the long axis"):
        heart_axes(Mesh(heart.points, heart.cells, surfaces=stacked))


# -- Fibres by rule --------------------------------------------------------------------------------


def frame(fibres: Fibres):
    return np.stack([fibres.fibre, fibres.sheet, fibres.normal], axis=2)


def assert_orthonormal(fibres):
    frames = frame(fibres)
    np.testing.assert_allclose(
        np.einsum("eij,eik->ejk", frames, frames),
        np.broadcast_to(np.eye(3), frames.shape),
        atol=1e-12,
    )
    np.testing.assert_allclose(np.linalg.det(frames), 1.0, atol=1e-12)


def plate():
    """A flat wall: y from endocardium to epicardium, z from apex to base."""
    mesh = slab((3.0, 2.0, 4.0), 0.5)
    depth, height = mesh.points[:, 1] / 2.0, mesh.points[:, 2] / 4.0
    zero = np.zeros(len(depth))
    fields = VentricularFields(depth, 1.0 - depth, zero, depth, height, zero + 1.0)
    return mesh, fields


@pytest.mark.parametrize(("endo", "epi"), [(60.0, -60.0), (40.0, -50.0), (80.0, -60.0)])
def test_angles_are_exact_in_a_flat_wall(endo, epi):
    mesh, fields = plate()
    fibres = ldrb(mesh, alpha_endo=endo, alpha_epi=epi, beta_endo=-20, beta_epi=30, fields=fields)
    assert fibres.replaced == 0
    assert_orthonormal(fibres)
    depth = element_mean(mesh, fields.phi_epi)
    alpha = np.radians(endo + depth * (epi - endo))
    beta = np.radians(-20.0 + 50.0 * depth)
    around, up, out = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])  # around = up x out
    fibre = np.cos(alpha)[:, None] * around + np.sin(alpha)[:, None] * up
    upward = np.cos(alpha)[:, None] * up - np.sin(alpha)[:, None] * around
    sheet = np.cos(beta)[:, None] * out + np.sin(beta)[:, None] * upward
    np.testing.assert_allclose(angle_between_lines(fibres.fibre, fibre), 0.0, atol=1e-5)
    np.testing.assert_allclose(angle_between_lines(fibres.sheet, sheet), 0.0, atol=1e-5)


def test_fibres_of_the_heart_are_orthonormal(fibres):
    assert_orthonormal(fibres)
    assert fibres.replaced < 20


def test_helix_angles_match_the_prescription(heart, fields, fibres):
    wall = walls(heart, fields)
    wanted = prescription(heart, fields)
    error = angle_difference(helix_in_fields(heart, fibres.fibre, fields), wanted)
    for name in ("left", "right", "septum"):
        assert error[wall[name]].mean() < 1.0, name
    assert error.mean() < 2.0
    # about the long axis of the ellipsoid rather than the field's longitudinal direction
    error = angle_difference(helix_angle(heart, fibres.fibre, fields, heart_axes(heart)), wanted)
    assert error[wall["left"]].mean() < 2.5
    assert error[wall["septum"]].mean() < 1.5


def test_handedness(heart, fields, fibres):
    """Right-handed helix on the left endocardium, left-handed on the epicardium.

    Along a right-handed helix about z the angle about z grows with z.
    """
    wall = walls(heart, fields)["left"]
    centres = heart.points[heart.cells].mean(axis=1)
    around = unit(np.stack([-centres[:, 1], centres[:, 0], 0.0 * centres[:, 0]], axis=1))
    rise = fibres.fibre[:, 2] * np.einsum("ei,ei->e", fibres.fibre, around)
    depth = element_mean(heart, fields.phi_epi)
    assert (rise[wall & (depth < 0.3)] > 0.0).all()
    assert (rise[wall & (depth > 0.7)] < 0.0).all()
    middle = wall & (np.abs(depth - 0.5) < 0.02)
    assert np.abs(fibres.fibre[middle, 2]).mean() < 0.06


def test_fibres_vary_smoothly(heart, fields, fibres):
    one, other = neighbours(heart.cells)
    jump = angle_between_lines(fibres.fibre[one], fibres.fibre[other]) > 45.0
    wall = walls(heart, fields)
    assert jump.mean() < 0.005
    smooth = wall["off_apex"] & ~wall["junction"]
    assert jump[smooth[one] & smooth[other]].mean() < 0.0005


def test_septum_is_continuous(heart, fields, fibres):
    """+60 degrees at the left side turn through 0 to +60 as seen from the right."""
    septum = walls(heart, fields)["septum"]
    angle = helix_angle(heart, fibres.fibre, fields, heart_axes(heart))
    across = 1.0 - element_mean(heart, fields.interventricular)
    for place, wanted in ((0.1, 48.0), (0.45, 6.0), (0.55, 6.0), (0.9, 48.0)):
        near = septum & (np.abs(across - place) < 0.04)
        assert abs(np.median(angle[near]) - wanted) < 4.0, place


def test_zero_angles_give_circles_and_radial_sheets(heart, fields):
    fibres = ldrb(heart, alpha_endo=0, alpha_epi=0, beta_endo=0, beta_epi=0, fields=fields)
    wall = walls(heart, fields)["left"]
    centres = heart.points[heart.cells].mean(axis=1)
    around = unit(np.stack([-centres[:, 1], centres[:, 0], 0.0 * centres[:, 0]], axis=1))
    assert angle_between_lines(fibres.fibre, around)[wall].mean() < 3.0
    outward = unit(centres / [30.0**2, 30.0**2, 70.0**2])  # of the ellipsoid halfway
    assert angle_between_lines(fibres.sheet, outward)[wall].mean() < 3.0


def test_undefined_frames_are_borrowed():
    mesh, fields = plate()
    height = np.minimum(fields.apicobasal, 0.75)  # no longitudinal direction in the upper quarter
    flat = VentricularFields(
        fields.phi_epi, fields.phi_lv, fields.phi_rv, fields.transmural, height,
        fields.interventricular,
    )  # fmt: skip
    fibres = ldrb(mesh, alpha_endo=0, alpha_epi=0, fields=flat)
    above = (mesh.points[mesh.cells][:, :, 2] > 3.4).all(axis=1)
    assert fibres.replaced >= above.sum() > 0
    assert_orthonormal(fibres)
    np.testing.assert_allclose(np.abs(fibres.fibre[:, 0]), 1.0, atol=1e-9)
    none = VentricularFields(*[0.0 * fields.phi_epi] * 6)
    with pytest.raises(ValueError, match="no element has a fibre direction"):
        ldrb(mesh, fields=none)


@pytest.mark.parametrize("name", ["alpha_endo", "alpha_epi", "beta_endo", "beta_epi"])
def test_angles_must_be_angles(name):
    mesh, fields = plate()
    with pytest.raises(ValueError, match=f"{name} must lie within -90 and 90"):
        ldrb(mesh, fields=fields, **{name: 120.0})


def test_bislerp_ignores_half_turns_and_reaches_both_ends():
    rng = np.random.default_rng(0)
    first = Rotation.random(200, rng=rng).as_matrix()
    second = Rotation.random(200, rng=rng).as_matrix()
    middle = bislerp(first, second, np.full(200, 0.5))
    for signs in ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        again = bislerp(first * np.array(signs), second, np.full(200, 0.5))
        np.testing.assert_allclose(np.abs(np.einsum("eij,eij->ej", middle, again)), 1.0, atol=1e-9)
    for weight, end in ((0.0, first), (1.0, second)):
        reached = bislerp(first, second, np.full(200, weight))
        np.testing.assert_allclose(np.abs(np.einsum("eij,eij->ej", reached, end)), 1.0, atol=1e-9)
    np.testing.assert_allclose(bislerp(first, first, np.full(200, 0.3)), first, atol=1e-12)


# -- Fibres from the mesh --------------------------------------------------------------------------


def with_directions(**fields):
    mesh = slab((1.0, 1.0, 1.0), 0.5)
    return Mesh(mesh.points, mesh.cells, cell_data=fields)


COUNT = 48


def test_fibres_are_normalised():
    rng = np.random.default_rng(1)
    fibre = rng.normal(size=(COUNT, 3))
    fibres = fibres_from_mesh(with_directions(fibre=20.0 * fibre))
    assert_orthonormal(fibres)
    np.testing.assert_allclose(fibres.fibre, unit(fibre), atol=1e-14)
    assert fibres.replaced == 0


def test_sheets_are_made_perpendicular():
    fibre = np.tile([0.0, 2.0, 0.0], (COUNT, 1))
    sheet = np.tile([0.0, 0.04, -3.0], (COUNT, 1))
    fibres = fibres_from_mesh(with_directions(fibre=fibre, sheet=sheet))
    assert_orthonormal(fibres)
    np.testing.assert_allclose(fibres.sheet, np.tile([0.0, 0.0, -1.0], (COUNT, 1)), atol=1e-14)


def test_mesh_without_fibres_says_what_to_do():
    with pytest.raises(ValueError, match=r"no cell data 'fibre'.*ldrb"):
        fibres_from_mesh(with_directions())


def test_bad_fibre_fields_name_the_worst():
    fibre = np.tile([1.0, 0.0, 0.0], (COUNT, 1))
    with pytest.raises(
        ValueError, match=r"one vector for each of 48 elements, got shape \(48, 2\)"
    ):
        fibres_from_mesh(with_directions(fibre=fibre[:, :2]))
    zero = fibre.copy()
    zero[[7, 31]] = 0.0
    with pytest.raises(ValueError, match=r"2 of 48 vectors .* 7 \[0.0, 0.0, 0.0\], 31"):
        fibres_from_mesh(with_directions(fibre=zero))
    sheet = np.tile([0.0, 1.0, 0.0], (COUNT, 1))
    sheet[5] = [np.sin(np.radians(12.0)), np.cos(np.radians(12.0)), 0.0]
    with pytest.raises(ValueError, match=r"1 elements deviate .* 5 \(12.0\)"):
        fibres_from_mesh(with_directions(fibre=fibre, sheet=sheet))
    fibres = fibres_from_mesh(with_directions(fibre=fibre, sheet=sheet), largest_deviation=15.0)
    np.testing.assert_allclose(fibres.sheet[5], [0.0, 1.0, 0.0], atol=1e-14)


# -- A real heart ----------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:.*placeholder.*")
def test_real_heart(data):
    path = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm.vtu.gz"
    names = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm.namemap.json"
    mesh = read_mesh(path, names=names, keep=["lv", "rv", "septum"])
    fields = ventricular_fields(mesh)
    fibres = ldrb(mesh, fields=fields)
    assert_orthonormal(fibres)
    assert fibres.replaced < 100

    wall, wanted = walls(mesh, fields), prescription(mesh, fields)
    error = angle_difference(helix_in_fields(mesh, fibres.fibre, fields), wanted)
    assert error[wall["left"]].mean() < 2.0
    assert error[wall["septum"]].mean() < 2.0
    one, other = neighbours(mesh.cells)
    jump = angle_between_lines(fibres.fibre[one], fibres.fibre[other]) > 45.0
    smooth = wall["off_apex"] & ~wall["junction"]
    assert jump.mean() < 0.005
    assert jump[smooth[one] & smooth[other]].mean() < 0.001

    # the file's own Laplace coordinate, apart from the numbering of its levels
    theirs = mesh.point_data["apico-basal"]
    order = np.argsort(np.argsort(theirs)), np.argsort(np.argsort(fields.apicobasal))
    assert np.corrcoef(*order)[0, 1] > 0.99
    # computed tomography: x to the left, y to the back, z up; apex to the left, front and below
    axes = heart_axes(mesh)
    assert axes.apex_to_base[0] < -0.3
    assert axes.apex_to_base[1] > 0.3
    assert axes.apex_to_base[2] > 0.3
    assert axes.lv_to_rv[0] < -0.3
    assert axes.lv_to_rv[1] < -0.3
    assert axes.third[1] < 0.0
