"""The gather-only sparse operator against assembled matrices, and its derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from tissues import passive, random_mesh, uniform_tissue

from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.numerics.fem import mass_matrix, p1_geometry, stiffness_matrix
from cardiotwin.numerics.rows import (
    difference_operator,
    edge_sums,
    node_sums,
    row_pattern,
)

HEARTS = {
    "random": lambda: random_mesh(60, 0),
    "kuhn": lambda: slab((4.0, 3.0, 2.0), 1.0),
    "bcc": lambda: slab((3.0, 2.0, 2.0), 1.0, pattern="bcc"),
    "heart": lambda: biventricle(3.2),
}


@pytest.fixture(scope="module", params=sorted(HEARTS))
def mesh(request):
    return HEARTS[request.param]()


def random_tensors(elements, seed=3):
    """Rotated principal values between 0.02 and 0.2."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(elements, 3, 3)))[0]
    return Fibres(axes[:, 0], axes[:, 1], axes[:, 2]), random.uniform(0.02, 0.2, (elements, 3))


@eqx.filter_jit
def apply(operator, x):
    return operator(x)


def written_out(pattern, weights):
    """The operator's matrix in the order of the mesh, from its rows as they are stored."""
    matrix = np.zeros((pattern.nodes, pattern.nodes))
    padded, start = np.append(weights, 0.0), 0
    for column, entry in zip(pattern.columns, pattern.entries, strict=True):
        home = np.broadcast_to(start + np.arange(column.shape[1]), column.shape)
        np.add.at(matrix, (home, column), padded[entry])
        np.add.at(matrix, (home, home), -padded[entry])
        start += column.shape[1]
    return matrix[np.ix_(pattern.rank, pattern.rank)]


def test_pattern_is_a_renumbering_with_every_edge_once(mesh):
    pattern = row_pattern(mesh.cells, len(mesh.points))
    n = len(mesh.points)
    np.testing.assert_array_equal(np.sort(pattern.order), np.arange(n))
    np.testing.assert_array_equal(pattern.rank[pattern.order], np.arange(n))
    mine = np.sort(pattern.order[pattern.edges], axis=1)
    theirs = np.sort(mesh.unique_edges(), axis=1)
    assert set(map(tuple, mine)) == set(map(tuple, theirs))
    assert len(mine) == len(theirs)
    assert sum(c.shape[1] for c in pattern.columns) == n
    # padding points home and at the zero weight behind the last edge
    start = 0
    for column, entry in zip(pattern.columns, pattern.entries, strict=True):
        home = np.arange(start, start + column.shape[1])
        padding = entry == len(pattern.edges)
        np.testing.assert_array_equal(column[padding], np.broadcast_to(home, column.shape)[padding])
        assert not np.any((column == home) & ~padding)
        start += column.shape[1]


def test_diffusion_operator_equals_the_stiffness_matrix(mesh):
    fibres, principal = random_tensors(len(mesh.cells))
    problem = passive(mesh, np.zeros(len(mesh.points)))
    tissue = type(problem.tissue)(fibres, 2 * principal, 2 * principal, chi=1.0, c_m=1.0)
    system = type(problem)(mesh, tissue, problem.cell, problem.stimulus).discretise()
    operator = difference_operator(system.pattern, jnp.asarray(system.diffusion_edges))
    expected = -stiffness_matrix(mesh.points, mesh.cells, tissue.diffusion())
    x = np.random.default_rng(0).normal(size=len(mesh.points))
    found = np.asarray(system.to_mesh(apply(operator, system.to_rows(x, jnp.float64))))
    # sums of at most some tens of terms: a few hundred roundings of the largest entry
    scale = np.abs(expected).max() * np.abs(x).max()
    np.testing.assert_allclose(found, expected @ x, rtol=0, atol=300 * 2.2e-16 * scale)
    sums = operator.row_sums()
    np.testing.assert_allclose(
        np.asarray(system.to_mesh(sums)), -expected.diagonal(), atol=1e-12 * abs(expected).max()
    )


def test_masses_equal_the_mass_matrix(mesh):
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    consistent = mass_matrix(mesh.points, mesh.cells)
    lumped = np.asarray(consistent.sum(axis=1)).ravel()
    np.testing.assert_allclose(system.mass[system.pattern.rank], lumped, rtol=1e-12)
    assert system.mass.sum() == pytest.approx(p1_geometry(mesh.points, mesh.cells)[1].sum())
    ends = system.pattern.order[system.pattern.edges]
    entries = np.asarray(consistent[ends[:, 0], ends[:, 1]]).ravel()
    np.testing.assert_allclose(system.mass_edges, entries, rtol=1e-11)
    # row sums of the blend stay the lumped mass: difference form with the lumped mass is M itself
    operator = difference_operator(system.pattern, jnp.asarray(system.mass_edges))
    x = np.random.default_rng(1).normal(size=len(mesh.points))
    rows = system.to_rows(x, jnp.float64)
    found = np.asarray(system.to_mesh(system.mass * rows + apply(operator, rows)))
    np.testing.assert_allclose(found, consistent @ x, atol=1e-13 * lumped.max() * 10)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), nodes=st.integers(5, 60))
def test_any_random_mesh_gives_the_assembled_matrix(seed, nodes):
    mesh = random_mesh(nodes, seed)
    pattern = row_pattern(mesh.cells, len(mesh.points))
    weights = np.random.default_rng(seed).normal(size=len(pattern.edges))
    i, j = pattern.order[pattern.edges].T
    off = sp.coo_matrix((weights, (i, j)), shape=(pattern.nodes,) * 2).toarray()
    off = off + off.T
    expected = off - np.diag(off.sum(axis=1))
    np.testing.assert_allclose(written_out(pattern, weights), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_constants_are_annihilated_exactly(mesh, dtype):
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    operator = difference_operator(system.pattern, jnp.asarray(system.diffusion_edges, dtype))
    for value in (-85.23, 1e6, 0.1):
        y = apply(operator, jnp.full(system.nodes, value, dtype))
        assert y.dtype == dtype
        assert not np.any(np.asarray(y))


@pytest.fixture(scope="module")
def small():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    pattern = row_pattern(mesh.cells, len(mesh.points))
    random = np.random.default_rng(5)
    weights = jnp.asarray(random.normal(size=len(pattern.edges)))
    x, y = (jnp.asarray(random.normal(size=pattern.nodes)) for _ in range(2))
    return pattern, weights, x, y


def test_gradients_with_respect_to_vector_and_weights(small):
    pattern, weights, x, y = small

    @jax.jit
    def value(x, weights):
        return jnp.sum(jnp.sin(difference_operator(pattern, weights)(x)) * y)

    # the function is smooth and of order one: central differences are good to about 1e-9
    check_grads(value, (x, weights), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


def test_the_transpose_is_the_operator_itself(small):
    pattern, weights, x, y = small
    operator = difference_operator(pattern, weights)
    pulled = jax.jit(lambda x, y: jax.vjp(operator, x)[1](y)[0])(x, y)
    np.testing.assert_allclose(pulled, apply(operator, y), rtol=0, atol=1e-13)
    assert float(y @ apply(operator, x)) == pytest.approx(float(apply(operator, y) @ x))


def primitives(jaxpr):
    """Names of all primitives, those of inner programs included."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                names |= primitives(inner)
    return names


def test_no_scatter_forwards_or_backwards(small):
    pattern, weights, x, y = small
    operator = difference_operator(pattern, weights)

    def value(x):
        return jnp.vdot(y, operator(operator(x)) ** 2)

    def weighted(x, weights):
        moved = eqx.tree_at(lambda o: o.weights, operator, weights)
        return jnp.vdot(y, moved(moved(x)) ** 2)

    by_weights = jax.grad(weighted, argnums=(0, 1))

    def squared(x, weights):
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(by_weights(x, weights)))

    programs = {
        "forward": (value, x),
        "backward": (jax.grad(value), x),
        "weights": (by_weights, x, operator.weights),
        "second": (jax.grad(squared, argnums=(0, 1)), x, operator.weights),
        "forward over reverse": (
            lambda x, w: jax.jvp(by_weights, (x, w), (x, w)),
            x,
            operator.weights,
        ),
        "batch": (jax.vmap(jax.grad(value)), jnp.stack([x, y])),
        "gradient of a batch": (
            jax.grad(lambda many, w: jnp.sum(jax.vmap(weighted, (0, None))(many, w)), (0, 1)),
            jnp.stack([x, y]),
            operator.weights,
        ),
    }
    for name, (function, *arguments) in programs.items():
        # what the compiler is given, rules of transformation unfolded
        text = jax.jit(function).lower(*arguments).as_text()
        assert "gather" in text, name
        assert "scatter" not in text, name

    # the check itself: an ordinary gather does scatter when it is transposed
    def plain(x):
        return jnp.vdot(y, (x[pattern.columns[0][0]].sum() + x) ** 2)

    assert any("scatter" in name for name in primitives(jax.make_jaxpr(jax.grad(plain))(x).jaxpr))


def test_vmap_over_vectors_and_over_weights(small):
    pattern, weights, x, y = small
    many = jnp.stack([x, y, x - y])
    operator = difference_operator(pattern, weights)
    expected = jnp.stack([apply(operator, row) for row in many])
    found = jax.jit(jax.vmap(operator))(many)
    np.testing.assert_allclose(found, expected, atol=1e-13)

    scaled = jnp.stack([weights, 2.0 * weights])
    both = jax.jit(jax.vmap(lambda w: difference_operator(pattern, w)(x)))(scaled)
    np.testing.assert_allclose(both, jnp.stack([expected[0], 2 * expected[0]]), atol=1e-13)


def test_vmap_of_a_gradient(small):
    pattern, weights, x, y = small
    operator = difference_operator(pattern, weights)
    gradient = jax.grad(lambda v: jnp.sum(operator(v) ** 2))
    both = jax.jit(jax.vmap(gradient))(jnp.stack([x, y]))
    np.testing.assert_allclose(both[1], gradient(y), atol=1e-12)


@pytest.fixture(scope="module")
def two_slices():
    """Two tetrahedra that share a face: rows of 3 and of 4 entries, in a slice each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cardiotwin.numerics.rows.SLICE_COST", 0.0)
        pattern = row_pattern(np.array([[0, 1, 2, 3], [1, 2, 3, 4]]), 5)
    assert [column.shape for column in pattern.columns] == [(3, 2), (4, 3)]
    random = np.random.default_rng(7)
    weights = jnp.asarray(random.normal(size=len(pattern.edges)))
    return pattern, weights, jnp.asarray(random.normal(size=pattern.nodes))


def test_derivatives_of_any_order_by_vector_and_weights(two_slices):
    pattern, weights, x = two_slices

    def value(x, w):
        return jnp.sum(jnp.sin(difference_operator(pattern, w)(x)))

    # jvp, vjp, jvp of vjp, vjp of vjp, vjp of jvp, jvp of jvp against central differences
    check_grads(value, (x, weights), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_derivatives_of_a_batch_are_the_batch_of_derivatives(two_slices):
    pattern, weights, x = two_slices
    xs, ws = jnp.stack([x, -2.0 * x, x**2]), jnp.stack([weights, weights**2, 0.5 * weights])

    def value(x, w):
        return jnp.sum(jnp.sin(difference_operator(pattern, w)(x)))

    both = jax.jit(jax.grad(value, argnums=(0, 1)))
    for axes in ((0, 0), (0, None), (None, 0)):
        found = jax.jit(jax.vmap(jax.grad(value, argnums=(0, 1)), axes))(
            xs if axes[0] == 0 else x, ws if axes[1] == 0 else weights
        )
        for k in range(3):
            one = both(xs[k] if axes[0] == 0 else x, ws[k] if axes[1] == 0 else weights)
            for a, b in zip(found, one, strict=True):
                np.testing.assert_allclose(a[k], b, atol=1e-12)
    # of the sum over a batch with shared weights: the sum of the derivatives
    many = jax.jit(jax.grad(lambda w: jnp.sum(jax.vmap(value, (0, None))(xs, w))))(weights)
    np.testing.assert_allclose(many, sum(both(row, weights)[1] for row in xs), atol=1e-12)
    # two batches, one in the other
    table = jax.jit(jax.vmap(jax.vmap(value, (0, None)), (None, 0)))(xs, ws)
    assert table.shape == (3, 3)
    assert float(table[2, 1]) == pytest.approx(float(value(xs[1], ws[2])), rel=1e-12)


def test_derivatives_inside_loops_and_recomputation(two_slices):
    pattern, weights, x = two_slices

    def value(x, w, recompute):
        operator = difference_operator(pattern, w)

        def step(x, _):
            return x + 0.1 * operator(jnp.sin(x)), x.sum()

        x, sums = jax.lax.scan(jax.checkpoint(step) if recompute else step, x, length=3)
        return jnp.sum(x**2) + jnp.sum(sums)

    gradient = jax.jit(jax.grad(value, argnums=(0, 1)), static_argnums=2)
    check_grads(lambda x, w: value(x, w, True), (x, weights), 1, modes=("rev",), rtol=1e-5)
    for a, b in zip(gradient(x, weights, True), gradient(x, weights, False), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_cases_sharded_over_devices(two_slices):
    pattern, weights, x = two_slices
    devices = jax.make_mesh((1,), ("case",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("case")

    def values(xs, w):
        return jax.vmap(lambda x: jnp.sum(difference_operator(pattern, w)(x) ** 2))(xs)

    split = jax.shard_map(
        values, mesh=devices, in_specs=(spec, jax.sharding.PartitionSpec()), out_specs=spec
    )
    xs = jnp.stack([x, 2.0 * x])
    np.testing.assert_allclose(jax.jit(split)(xs, weights), values(xs, weights), rtol=1e-13)
    # the shared weights gather their derivative from all devices
    found = jax.jit(jax.grad(lambda w: split(xs, w).sum()))(weights)
    np.testing.assert_allclose(found, jax.grad(lambda w: values(xs, w).sum())(weights), rtol=1e-12)


def test_columns_cannot_be_a_batch(small):
    pattern, weights, x, _ = small
    operator = difference_operator(pattern, weights)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), operator)
    with pytest.raises(NotImplementedError, match="cases of a batch share one mesh"):
        jax.vmap(lambda o: o(x))(twice)


def test_sums_are_the_same_in_numpy_and_jax_and_differentiable():
    mesh = random_mesh(30, 11)
    pattern = row_pattern(mesh.cells, len(mesh.points))
    random = np.random.default_rng(2)
    for sums, width in (
        (lambda a: edge_sums(pattern, a), 6),
        (lambda a: node_sums(pattern, mesh.cells, a), 4),
    ):
        local = random.normal(size=(len(mesh.cells), width))
        host, device = sums(local), sums(jnp.asarray(local))
        assert isinstance(host, np.ndarray)
        np.testing.assert_allclose(host, device, atol=1e-13)
        assert host.sum() == pytest.approx(local.sum())
        gradient = jax.jit(jax.grad(lambda a, sums=sums: jnp.sum(sums(a))))(jnp.asarray(local))
        np.testing.assert_array_equal(gradient, np.ones_like(local))


def test_diffusion_is_differentiable_with_respect_to_conductivity():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    base = uniform_tissue(mesh, (0.2, 0.1, 0.05))
    x = jnp.asarray(np.random.default_rng(3).normal(size=len(mesh.points)))

    @jax.jit
    def energy(scale):
        tuning = jnp.ones((len(mesh.cells), 3)) * scale[None]
        tissue = type(base)(base.fibres, base.intracellular, base.extracellular, tuning, 1.0, 1.0)
        problem = passive(mesh, np.zeros(len(mesh.points)))
        system = type(problem)(mesh, tissue, problem.cell, problem.stimulus).discretise()
        rows = system.to_rows(x, jnp.float64)
        return -jnp.vdot(rows, difference_operator(system.pattern, system.diffusion_edges)(rows))

    scale = jnp.array([1.0, 2.0, 0.5])
    # linear in the scale, so Euler's identity holds and every derivative is positive
    gradient = jax.grad(energy)(scale)
    assert np.all(np.asarray(gradient) > 0)
    assert float(gradient @ scale) == pytest.approx(float(energy(scale)), rel=1e-12)
