"""Voxel grids: their operators against algebra and exact solutions, runs beside tetrahedra."""

import itertools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh
from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.labels import voxels_from_labels
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.numerics.rows import difference_operator
from cardiotwin.propagation.corrected import CorrectedDiffusion
from cardiotwin.propagation.ensemble import ensemble
from cardiotwin.propagation.observe import ActivationTime, Probe, RepolarisationTime, Snapshots
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion, Strang
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.stimulus import BoxStimulus, FocalStimulus

ROTATION = Rotation.from_euler("xyz", [35, 50, 20], degrees=True).as_matrix()
SPACING = np.array([0.3, 0.4, 0.25])
SCHEMES = {
    "implicit": Godunov(ImplicitDiffusion()),
    "explicit": Godunov(ExplicitDiffusion()),
    "corrected": Godunov(CorrectedDiffusion()),
    "Strang": Strang(ImplicitDiffusion()),
}


def shell(shape=(11, 13, 9), hole=0.55):
    """A mask that fills its box badly: half an ellipsoid with a hole in it."""
    middle = (np.array(shape) - 1) / 2
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - middle
    radius = np.linalg.norm(place / (middle + 0.4), axis=-1)
    return (radius <= 1) & (radius > hole) & (place[..., 2] < 2)


def frames(elements, rotation=None, seed=0):
    """Directions, the same in every element or random."""
    if rotation is None:
        rotation = Rotation.random(elements, rng=np.random.default_rng(seed)).as_matrix()
    axes = np.broadcast_to(rotation, (elements, 3, 3))
    return Fibres(axes[:, 0], axes[:, 1], axes[:, 2])


def tissue(mesh, fibres, diffusivity=(0.3, 0.1, 0.05)):
    """Tissue with these diffusivities, mm2/ms: chi C_m = 1."""
    sigma = np.tile(2.0 * np.asarray(diffusivity), (len(fibres.fibre), 1))
    return Tissue(fibres, sigma, sigma, chi=1.0, c_m=1.0)


def problem(mesh, fibres, diffusivity=(0.3, 0.1, 0.05), **options):
    made = tissue(mesh, fibres, diffusivity)
    stimulus = FocalStimulus([mesh.points[0]], radius=0.6, **options)
    return Monodomain(mesh, made, MitchellSchaeffer(), stimulus)


def dense(system, edges):
    """The operator with these edge weights, in the order of the mesh."""
    first, second = system.pattern.order[system.pattern.edges.T]
    matrix = np.zeros((system.nodes, system.nodes))
    matrix[first, second] += edges
    matrix[second, first] += edges
    return matrix - np.diag(matrix.sum(axis=1))


MASKS = {"box": np.ones((5, 9, 4), bool), "shell": shell()}


@pytest.fixture(params=MASKS)
def voxels(request):
    return Voxels(MASKS[request.param], SPACING, origin=(1.0, -2.0, 3.0))


def test_shell_is_kept_in_cubes_and_box_whole(voxels):
    pattern = problem(voxels, frames(voxels.elements)).discretise().pattern
    assert pattern.boxes.full == bool(voxels.mask.all())
    stored = np.prod(pattern.boxes.box) * pattern.boxes.count
    assert pattern.nodes <= stored < 3.5 * pattern.nodes


def test_operator_is_its_matrix(voxels):
    system = problem(voxels, frames(voxels.elements)).discretise()
    weights = np.asarray(system.diffusion_edges)
    matrix = dense(system, weights)
    operator = difference_operator(system.pattern, jnp.asarray(weights))
    x = np.random.default_rng(1).normal(size=(2, system.nodes))
    rows = jnp.asarray(x[:, system.pattern.order])
    found = np.asarray(jax.jit(jax.vmap(operator))(rows))[:, system.pattern.rank]
    np.testing.assert_allclose(found, x @ matrix, atol=1e-13)
    sums = np.asarray(operator.row_sums())[system.pattern.rank]
    np.testing.assert_allclose(sums, -np.diag(matrix), atol=1e-13)
    marked = np.random.default_rng(2).random(system.nodes) < 0.02
    touched = operator.touched(jnp.asarray(marked[system.pattern.order]))
    expected = (np.abs(matrix) > 0).astype(int) @ marked > 0
    np.testing.assert_array_equal(np.asarray(touched)[system.pattern.rank], expected)


def test_matrix_is_symmetric_and_only_constants_cost_nothing(voxels):
    system = problem(voxels, frames(voxels.elements), (1.0, 0.05, 0.02)).discretise()
    values = np.linalg.eigvalsh(-dense(system, np.asarray(system.diffusion_edges)))
    assert abs(values[0]) < 1e-13 * values[-1]
    assert values[1] > 1e-5 * values[-1]
    # the consistent mass has the volume of the tissue and is positive definite
    mass = np.diag(system.mass[system.pattern.rank]) + dense(system, system.mass_edges)
    assert system.mass.sum() == pytest.approx(voxels.volume(), rel=1e-12)
    assert mass.sum() == pytest.approx(voxels.volume(), rel=1e-12)
    assert np.linalg.eigvalsh(mass)[0] > 0
    at_rest = difference_operator(system.pattern, jnp.asarray(system.diffusion_edges))
    assert not np.asarray(at_rest(jnp.full(system.nodes, -85.3))).any()


def test_derivatives_of_the_operator_agree_with_differences_and_never_scatter(voxels):
    pattern = problem(voxels, frames(voxels.elements)).discretise().pattern
    random = np.random.default_rng(3)
    weights = jnp.asarray(random.normal(size=len(pattern.edges)))
    x = jnp.asarray(random.normal(size=pattern.nodes))

    @jax.jit
    def f(weights, x):
        return jnp.sin(difference_operator(pattern, weights)(x)).sum()

    check_grads(f, (weights, x), 1)
    slope = jax.jit(jax.grad(f, (0, 1)))
    along = tuple(jnp.asarray(random.normal(size=a.shape)) for a in (weights, x))
    _, bend = jax.jit(lambda: jax.jvp(slope, (weights, x), along))()
    ahead, behind = (
        slope(*(a + s * d for a, d in zip((weights, x), along, strict=True))) for s in (1e-5, -1e-5)
    )
    for found, one, other in zip(bend, ahead, behind, strict=True):
        np.testing.assert_allclose(found, (one - other) / 2e-5, atol=1e-5)
    operator = difference_operator(pattern, weights)
    program = jax.make_jaxpr(
        jax.grad(
            lambda w, x: jnp.sin(eqx.tree_at(lambda o: o.weights, operator, w)(x)).sum(), (0, 1)
        )
    )(operator.weights, x)
    assert "scatter" not in str(program)
    assert str(program).count("edge_products") == 1


def test_energy_of_linear_fields_is_exact_for_any_constant_tensor(voxels):
    # grad u = g everywhere: u . K u = volume g . D g, with every scheme's tensor
    system = problem(voxels, frames(voxels.elements, ROTATION)).discretise()
    g = np.array([0.3, -1.2, 0.7])
    u = voxels.points @ g
    energy = -u @ dense(system, np.asarray(system.diffusion_edges)) @ u
    tensor = ROTATION.T @ np.diag([0.3, 0.1, 0.05]) @ ROTATION
    assert energy == pytest.approx(voxels.volume() * g @ tensor @ g, rel=1e-12)


def test_linear_fields_have_no_divergence_inside(voxels):
    system = problem(voxels, frames(voxels.elements, ROTATION)).discretise()
    change = dense(system, np.asarray(system.diffusion_edges)) @ (voxels.points @ [0.3, -1.2, 0.7])
    inside = np.bincount(voxels.cells.ravel()) == 8
    assert inside.sum() > 10
    assert np.abs(change[inside]).max() < 1e-14 < 1e-3 < np.abs(change).max()


def test_grid_axes_only_turn_the_grid():
    turned = Voxels(shell(), SPACING, axes=ROTATION)
    straight = Voxels(shell(), SPACING)
    np.testing.assert_allclose(turned.points, straight.points @ ROTATION)
    fibres = frames(straight.elements)
    moved = Fibres(*(a @ ROTATION for a in (fibres.fibre, fibres.sheet, fibres.normal)))
    one, other = (
        np.asarray(problem(*p).discretise().diffusion_edges)
        for p in ((straight, fibres), (turned, moved))
    )
    np.testing.assert_allclose(one, other, atol=1e-15)


def test_fibres_along_an_axis_give_the_stencil_of_seven_points():
    voxels = Voxels(np.ones((6, 6, 6), bool), SPACING)
    system = problem(voxels, frames(voxels.elements, np.eye(3))).discretise()
    operator = difference_operator(system.pattern, jnp.asarray(system.diffusion_edges))
    assert sorted(operator.boxes.offsets) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    row = dense(system, np.asarray(system.diffusion_edges))[3 * 49 + 3 * 7 + 3]
    expected = np.sort(np.repeat([0.3, 0.1, 0.05] / SPACING**2, 2) * SPACING.prod())
    assert np.sort(row)[-6:] == pytest.approx(expected)


def cosine_error(cells, rotation):
    """Relative error of div D grad of a product of cosines inside a box of 12 x 12 x 12 mm."""
    h = 12.0 / cells
    voxels = Voxels(np.ones((cells,) * 3, bool), h)
    system = problem(voxels, frames(voxels.elements, rotation)).discretise()
    k = np.array([0.4, 0.7, 0.5])
    tensor = rotation.T @ np.diag([0.3, 0.1, 0.05]) @ rotation
    phase = voxels.points @ k
    change = difference_operator(system.pattern, jnp.asarray(system.diffusion_edges))(
        jnp.asarray(np.cos(phase)[system.pattern.order])
    )
    found = (np.asarray(change) / system.mass)[system.pattern.rank]
    exact = -(k @ tensor @ k) * np.cos(phase)
    inside = (np.abs(voxels.points - 6.0) < 6.0 - 0.9 * h).all(axis=1)
    return np.abs(found - exact)[inside].max() / np.abs(exact).max()


@pytest.mark.parametrize(
    ("rotation", "largest"), [(np.eye(3), 0.02), (ROTATION, 0.04)], ids=["straight", "oblique"]
)
def test_cosine_converges_at_second_order(rotation, largest):
    coarse, fine = (cosine_error(n, rotation) for n in (12, 24))
    assert np.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)
    assert fine < largest


@pytest.mark.parametrize("scheme", SCHEMES)
def test_edge_of_the_mask_lets_no_current_out(scheme):
    voxels = Voxels(shell(), 0.4)
    system = problem(voxels, frames(voxels.elements)).discretise(corrected=True)
    step = SCHEMES[scheme].diffusion.setup(system, 0.1, jnp.float64)
    v = jnp.asarray(np.random.default_rng(4).normal(size=system.nodes))
    after = step(v, step.flux(v))
    assert np.abs(np.asarray(after - v)).max() > 0.05
    if scheme in ("implicit", "Strang"):
        # an unfinished iteration keeps the total to its tolerance
        assert float(system.mass @ after) == pytest.approx(
            float(system.mass @ v), abs=2e-3 * voxels.volume()
        )
    else:
        assert float(system.mass @ after) == pytest.approx(
            float(system.mass @ v), abs=1e-13 * voxels.volume()
        )


SIZE, EDGE = (6.0, 2.0, 1.0), 0.25


def block(kind):
    if kind == "tetrahedra":
        return slab(SIZE, EDGE)
    counts = np.rint(np.array(SIZE) / EDGE).astype(int)
    fibre = np.tile([1.0, 0.0, 0.0], (counts.prod(), 1))
    return Voxels(np.ones(counts, bool), EDGE, cell_data={"fibre": fibre})


def beat(mesh, scheme, fibres=None, **options):
    fibres = fibres_from_mesh(mesh) if fibres is None else fibres
    made = Monodomain(
        mesh,
        tissue(mesh, fibres, (0.13, 0.04, 0.04)),
        MitchellSchaeffer(),
        BoxStimulus(high=(1.0, 1.0, 1.0)),
    )
    settings = {"dt": 0.05, "scheme": scheme, "precision": "float64"}
    return solve(made, 24.0, **{**settings, **options})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_activation_agrees_with_tetrahedra(scheme, tabulate):
    observe = {"activation": ActivationTime(-20.0), "probe": Probe([0, 100])}
    times = {}
    for kind in ("tetrahedra", "voxels"):
        solution = beat(block(kind), SCHEMES[scheme], observe=observe)
        assert solution.frames["probe"].shape == (25, 2)
        times[kind] = np.asarray(solution.observed["activation"])
    # the same nodes in another order
    for kind in times:
        times[kind] = times[kind][np.lexsort(block(kind).points.round(6).T)]
    ratio = times["voxels"] / times["tetrahedra"]
    late = times["tetrahedra"] > 6.0
    tabulate(
        "Activation of a block of voxels over that of tetrahedra",
        scheme=scheme,
        lowest=ratio[late].min(),
        highest=ratio[late].max(),
        last_ms=times["voxels"].max(),
    )
    assert np.abs(ratio[late] - 1).max() < 0.025


def test_quiet_and_divided_steps_change_nothing():
    # long enough for the front to be less than the share of the nodes that can be gathered
    voxels = Voxels(np.ones((72, 7, 6), bool), EDGE)
    fibres = frames(voxels.elements, ROTATION)
    observe = {"activation": ActivationTime(-20.0), "repolarisation": RepolarisationTime()}
    times = []
    for options in ({}, {"quiet_dt": 0.2, "multirate": True}):
        solution = beat(voxels, SCHEMES["corrected"], fibres, observe=observe, **options)
        times.append(np.asarray(solution.observed["activation"]))
    assert 0 < solution.stats["busy_share"] < 0.95
    np.testing.assert_allclose(*times, atol=5e-3)


def test_gradient_to_conductivities_is_that_of_differences():
    mesh = Voxels(shell((9, 9, 7), hole=-1.0), 0.5)
    fibres = frames(mesh.elements)

    def made(sigma):
        conductivity = Conductivity(intra_fibre=sigma[0], intra_sheet=sigma[1])
        tissue = Tissue.by_region(mesh, fibres, conductivity)
        cell = MitchellSchaeffer(smoothing=0.05)
        return Monodomain(mesh, tissue, cell, FocalStimulus([mesh.points[0]], radius=1.0))

    start = np.array([0.3, 0.08])
    for diffusion in (ImplicitDiffusion(), CorrectedDiffusion()):
        scheme = Godunov(diffusion).frozen(made(start), 0.1)

        @jax.jit
        def late(sigma, scheme=scheme):
            observe = {"v": Snapshots()}
            run = solve(
                made(sigma), 6.0, dt=0.1, every=2.0, scheme=scheme, observe=observe,
                precision="float64",
            )  # fmt: skip
            return run.frames["v"][-1].mean()

        slope = jax.grad(late)(jnp.asarray(start))
        for k, step in enumerate(np.eye(2) * 1e-4):
            difference = (late(start + step) - late(start - step)) / 2e-4
            assert float(slope[k]) == pytest.approx(float(difference), rel=1e-4), (diffusion, k)


def test_batches_share_the_grid():
    mask = np.ones((5, 6, 4), bool)
    mask[3:, 4:] = False
    mesh = Voxels(mask, 0.5)
    made = problem(mesh, frames(mesh.elements))

    def run(tau):
        case = eqx.tree_at(lambda p: p.cell.tau_in, made, tau)
        return solve(case, 4.0, dt=0.1, every=2.0, observe={"v": Snapshots()}).frames["v"]

    taus = jnp.array([0.3, 0.4])
    runs = ensemble(run, taus)
    for found, tau in zip(runs, taus, strict=True):
        np.testing.assert_allclose(found, run(tau), atol=2e-3)


def test_tetrahedra_of_voxels_are_a_mesh_on_the_same_nodes(voxels):
    mesh = voxels.tetrahedra()
    np.testing.assert_array_equal(mesh.points, voxels.points)
    np.testing.assert_allclose(
        mesh.volumes().reshape(-1, 6).sum(axis=1), voxels.volumes(), rtol=1e-12
    )
    np.testing.assert_allclose(
        mesh.centroids().reshape(-1, 6, 3).mean(axis=1), voxels.centroids(), atol=1e-12
    )
    assert set(map(tuple, voxels.unique_edges())) <= set(map(tuple, mesh.unique_edges()))
    assert len(voxels.boundary_faces()) == len(mesh.boundary_faces())


def test_fields_come_from_images_or_from_lists():
    mask = shell()
    image = np.arange(mask.size).reshape(mask.shape)
    one = Voxels(
        mask, 0.5, regions=image, cell_data={"a": image, "fibre": np.ones((mask.sum(), 3))}
    )
    np.testing.assert_array_equal(one.regions, image[mask])
    np.testing.assert_array_equal(one.on_grid(one.cell_data["a"], outside=0), image * mask)
    changed = one.replaced(regions=None)
    np.testing.assert_array_equal(changed.regions, 1)
    np.testing.assert_array_equal(changed.points, one.points)


APART = np.zeros((6, 3, 3), bool)
APART[:2] = APART[4:] = True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 3, 3), bool), 1.0), "no voxel of the mask"),
        ((np.ones((3, 3), bool), 1.0), "three axes"),
        ((np.full((3, 3, 3), 4), 1.0), "choose some"),
        ((np.ones((3, 3, 3)), -1.0), "positive length"),
        ((np.ones((3, 3, 3)), (1.0, 1.0)), "positive length"),
        ((np.ones((3, 3, 3)), (1.0, np.nan, 1.0)), "positive length"),
        ((APART, 1.0), "2 pieces that share no face: 18 voxels from voxel [0, 0, 0]"),
    ],
)
def test_grids_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Voxels(*arguments)


def test_axes_origins_and_fields_that_cannot_be_are_refused():
    mask = np.ones((3, 3, 3), bool)
    for axes in (2 * np.eye(3), np.diag([1.0, 1.0, -1.0]), [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]):
        with pytest.raises(ValueError, match="perpendicular directions"):
            Voxels(mask, 1.0, axes=axes)
    with pytest.raises(ValueError, match="origin"):
        Voxels(mask, 1.0, origin=(0.0, np.inf, 0.0))
    with pytest.raises(ValueError, match="voxels"):
        Voxels(mask, 1.0, cell_data={"fibre": np.ones((5, 3))})
    with pytest.raises(ValueError, match="regions"):
        Voxels(mask, 1.0, regions=np.ones(5, int))
    two = Voxels(APART, 1.0, allow_components=True)
    assert two.elements == 36
    with pytest.raises(ValueError, match="tissue has 5 elements"):
        Monodomain(two, tissue(two, frames(5)), MitchellSchaeffer(), FocalStimulus([two.points[0]]))


def test_coarse_grids_warn():
    with pytest.warns(UserWarning, match=r"9 of 9 voxels \(100 %\).*one voxel thick"):
        Voxels(np.ones((3, 3, 1), bool), 1.0)
    with pytest.warns(UserWarning, match="4.0 times worse"):
        Voxels(np.ones((3, 3, 3), bool), (1.0, 1.0, 4.0))


@pytest.mark.parametrize("kind", MASKS)
def test_runs_spread_over_devices_are_the_same(kind):
    mesh = Voxels(MASKS[kind], 0.4)
    made = problem(mesh, frames(mesh.elements))
    case = {"scheme": SCHEMES["implicit"], "dt": 0.1, "precision": "float64"}
    observe = {"v": Snapshots()}
    one, two = (solve(made, 3.0, observe=observe, devices=d, **case) for d in (None, 2))
    np.testing.assert_allclose(one.frames["v"], two.frames["v"], atol=1e-9)


def image_of_two_halves():
    """Labels 1 and 2 side by side within 0, and a crumb of 1 apart."""
    image = np.zeros((8, 6, 5), int)
    image[1:4, 1:5, 1:4] = 1
    image[4:7, 1:5, 1:4] = 2
    return image


def test_labels_become_regions_in_place():
    image = image_of_two_halves()
    affine = np.array([[0, -2, 0, 10], [2, 0, 0, -5], [0, 0, 3, 1], [0, 0, 0, 1.0]])
    both = voxels_from_labels(image, {1: "lv", 2: "rv"}, affine=affine)
    assert both.volume() == pytest.approx((image > 0).sum() * 12.0)
    assert both.region_names == ((1, "lv"), (2, "rv"))
    expected = np.argwhere(image > 0) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(both.centroids(), expected)
    np.testing.assert_array_equal(both.regions, image[image > 0])
    one = voxels_from_labels(image, 2, spacing=(2.0, 2.0, 3.0))
    assert one.elements == 36
    assert one.origin.tolist() == [8.0, 2.0, 3.0]


def test_mirrored_images_are_turned_round():
    image = image_of_two_halves()
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    found = voxels_from_labels(image, [1, 2], affine=mirrored)
    assert np.linalg.det(found.axes) == pytest.approx(1.0)
    expected = np.argwhere(image > 0) * [-1.0, 1.0, 1.0]
    order = np.lexsort(found.centroids().T), np.lexsort(expected.T)
    np.testing.assert_allclose(found.centroids()[order[0]], expected[order[1]], atol=1e-12)
    np.testing.assert_array_equal(found.regions[order[0]], image[image > 0][order[1]])


@pytest.mark.parametrize("edge", [0.5, 2.0])
def test_resampling_keeps_place_and_volume(edge):
    place = np.stack(np.meshgrid(*map(np.arange, (40, 36, 30)), indexing="ij"), -1)
    centre = np.array([19.5, 17.5, 14.5])
    ball = (np.linalg.norm((place - centre) / [16, 14, 12], axis=-1) < 1) * 3
    ball[20:][ball[20:] == 3] = 4
    fine = voxels_from_labels(ball, [3, 4], spacing=(0.9, 1.0, 1.1))
    coarse = voxels_from_labels(ball, [3, 4], spacing=(0.9, 1.0, 1.1), edge_length=edge)
    assert coarse.spacing.tolist() == [edge] * 3
    assert coarse.volume() == pytest.approx(fine.volume(), rel=0.02)
    np.testing.assert_allclose(
        fine.centroids().mean(axis=0), coarse.centroids().mean(axis=0), atol=0.05
    )
    # a cube on the border of two labels is of one: the border moves by half a cube at most
    for label in (3, 4):
        one, other = (v.centroids()[v.regions == label] for v in (fine, coarse))
        np.testing.assert_allclose(one.min(axis=0), other.min(axis=0), atol=1.5 * edge)
        np.testing.assert_allclose(one.mean(axis=0), other.mean(axis=0), atol=0.5 * edge)


def test_crumbs_are_refused_or_left_out():
    image = image_of_two_halves()
    image[7, 5, 4] = 1
    with pytest.raises(ValueError, match="2 pieces"):
        voxels_from_labels(image, [1, 2], spacing=1.0)
    whole = voxels_from_labels(image, [1, 2], spacing=1.0, largest_component=True)
    assert whole.mask.shape == (6, 4, 3)
    assert voxels_from_labels(image, [1, 2], spacing=1.0, allow_components=True).elements == 73


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (image_of_two_halves(), {"labels": 7, "spacing": 1.0}, "the labels of the image are"),
        (image_of_two_halves(), {"labels": [], "spacing": 1.0}, "labels is empty"),
        (image_of_two_halves(), {"labels": 1}, "needs a spacing or an affine"),
        (image_of_two_halves(), {"labels": 1, "spacing": 0.0}, "positive length"),
        (image_of_two_halves(), {"labels": 1, "spacing": 1.0, "edge_length": -1.0}, "positive"),
        (image_of_two_halves() + 0.5, {"labels": 1, "spacing": 1.0}, "labels are whole numbers"),
        (np.zeros((3, 3), int), {"labels": 0, "spacing": 1.0}, "three axes"),
        ("/no/such/image.nii.gz", {"labels": 1}, "there is no image"),
        (
            image_of_two_halves(),
            {"labels": 1, "affine": [[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
            "sheared",
        ),
        (image_of_two_halves(), {"labels": 1, "affine": np.eye(3)}, "affine must be"),
        (
            image_of_two_halves(),
            {"labels": 1, "affine": np.diag([0.0, 0.0, 0.0, 1.0])},
            "not positive",
        ),
        (
            image_of_two_halves(),
            {"labels": 1, "affine": np.eye(4) + np.eye(4)[[3]].T @ [[1, 2, 3, 0]]},
            "transposed",
        ),
        (image_of_two_halves(), {"labels": 1, "affine": np.eye(4), "spacing": 3.0}, "leave the sp"),
        (image_of_two_halves(), {"labels": 1.5, "spacing": 1.0}, "1.5 is no whole number"),
        (image_of_two_halves(), {"labels": "lv", "spacing": 1.0}, "'lv' is no whole number"),
        (image_of_two_halves(), {"labels": None, "spacing": 1.0}, "None is no whole number"),
        (image_of_two_halves(), {"labels": {"lv": 1}, "spacing": 1.0}, "'lv' is no whole number"),
        (image_of_two_halves() + 2**32, {"labels": 1, "spacing": 1.0}, "do not fit 32 bits"),
        (image_of_two_halves().astype(str), {"labels": 1, "spacing": 1.0}, "holds type"),
        (image_of_two_halves() + 0j, {"labels": 1, "spacing": 1.0}, "holds type complex"),
        (image_of_two_halves(), {"labels": 1, "spacing": "a mm"}, "spacing must be"),
        (
            image_of_two_halves(),
            {"labels": 1, "spacing": 1.0, "edge_length": "a mm"},
            "edge_length must be",
        ),
        (image_of_two_halves(), {"labels": 1, "spacing": 1.0, "edge_length": 99.0}, "half full"),
    ],
)
def test_images_that_cannot_be_are_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        voxels_from_labels(image, **options)


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1e3), ("micron", 1e-3), ("unknown", 1.0)])
def test_files_are_read_in_the_unit_of_their_header(unit, mm, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([2.0, 2.0, 3.0, mm]) / mm
    affine[:3, 3] = np.array([10.0, -5.0, 1.0]) / mm
    image = nibabel.Nifti1Image(image_of_two_halves().astype(np.uint8), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "heart.nii")
    vectors = np.broadcast_to(np.float32([0.0, 1.0, 0.0]), (*image.shape, 3))
    fibre = nibabel.Nifti1Image(vectors, affine)
    fibre.header.set_xyzt_units(unit)
    nibabel.save(fibre, tmp_path / "fibre.nii")
    found = voxels_from_labels(tmp_path / "heart.nii", [1, 2], fibre=tmp_path / "fibre.nii")
    np.testing.assert_allclose(found.spacing, [2.0, 2.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(found.centroids().min(axis=0), [12.0, -3.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(found.cell_data["fibre"], vectors[:, 0, 0][:1].repeat(72, 0))


def test_permuted_and_mirrored_axes_put_tissue_and_fibres_in_place():
    """Every way to store one heart gives the same heart."""
    image = image_of_two_halves()
    vectors = np.random.default_rng(5).normal(size=(*image.shape, 3))
    spacing = np.array([2.0, 1.5, 3.0])
    place = np.argwhere(image > 0) * spacing
    expected = vectors[image > 0] / np.linalg.norm(vectors[image > 0], axis=1)[:, None]
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.diag(spacing)[:, axes]
            for k, flip in enumerate(flips):
                if flip:
                    affine[:3, 3] += affine[:3, k] * (image.shape[axes[k]] - 1)
                    affine[:3, k] *= -1
            turned = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
            found = voxels_from_labels(
                image.transpose(axes)[turned],
                [1, 2],
                affine=affine,
                fibre=vectors.transpose(*axes, 3)[turned],
            )
            which = KDTree(place).query(found.centroids())[1]
            np.testing.assert_allclose(found.centroids(), place[which], atol=1e-12)
            assert len(set(which)) == len(place)
            np.testing.assert_array_equal(found.regions, image[image > 0][which])
            np.testing.assert_allclose(found.cell_data["fibre"], expected[which], atol=1e-12)


def test_absent_labels_and_hearts_of_odd_size_warn():
    with pytest.warns(UserWarning, match=r"no voxel of the image has label \[7\]"):
        voxels_from_labels(image_of_two_halves(), {1: "lv", 7: "rv"}, spacing=1.0)
    for spacing in (1e-3, 1e3):
        with pytest.warns(UserWarning, match="mm across.*which is no heart"):
            voxels_from_labels(image_of_two_halves(), 1, spacing=spacing)


def test_surfaces_and_names_that_cannot_be_are_refused():
    mask = np.ones((3, 3, 3), bool)
    faces = Voxels(mask, 1.0).boundary_faces()
    assert len(Voxels(mask, 1.0, surfaces={"epi": faces}).surfaces["epi"]) == len(faces)
    for wrong, message in (
        ([[0, 1, 999]], "do not exist"),
        ([[0, 1, 21]], "not faces of the boundary"),
        (faces[:, ::-1], "point into the tissue"),
    ):
        with pytest.raises(ValueError, match=message):
            Voxels(mask, 1.0, surfaces={"epi": wrong})
    with pytest.raises(ValueError, match="several regions are called"):
        Voxels(mask, 1.0, region_names={1: "lv", 2: "lv"})


@pytest.mark.realdata
def test_left_ventricle_of_a_ct(data):
    nibabel = pytest.importorskip("nibabel")
    path = data / "ct-labels" / "wh.nii.gz"
    heart = voxels_from_labels(path, {1: "lv"}, edge_length=2.0, largest_component=True)
    image = nibabel.load(path)
    inside = np.argwhere(np.asanyarray(image.dataobj) == 1)
    volume = len(inside) * np.prod(image.header.get_zooms())
    assert heart.volume() == pytest.approx(volume, rel=0.01)
    middle = image.affine[:3, :3] @ inside.mean(axis=0) + image.affine[:3, 3]
    np.testing.assert_allclose(heart.centroids().mean(axis=0), middle, atol=0.1)
    assert heart.region_names == ((1, "lv"),)
