"""Arrays that are handed over once."""

import jax
import jax.numpy as jnp
import numpy as np
from tissues import passive, random_mesh

from cardiotwin.numerics.shared import share
from cardiotwin.propagation.corrected import CorrectedDiffusion


def test_unpacks_to_what_was_shared():
    weight = jnp.arange(4.0)
    tree = {"a": (weight, jnp.arange(3), None, 2.5), "b": [jnp.arange(3), weight, jnp.ones(3)]}
    shared = share(tree)
    assert len(shared.held) == 4
    back = shared.unpack()
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_weights_and_single_numbers_stay_apart():
    # by chance equal: a gradient or a new value concerns one of them only
    assert len(share((jnp.ones(3), jnp.ones(3), jnp.asarray(1), jnp.asarray(1))).held) == 4
    assert len(share((jnp.arange(3), jnp.arange(3, dtype=jnp.int16), jnp.arange(4))).held) == 3


def test_operators_of_a_step_share_their_columns():
    mesh = random_mesh(30, 1)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise(corrected=True)
    step = CorrectedDiffusion().setup(system, 1e-3, jnp.float32)
    slices = len(system.pattern.columns)
    columns = [x for x in share(step).held if jnp.issubdtype(x.dtype, jnp.integer)]
    assert len(columns) == slices
    v = jnp.asarray(np.random.default_rng(0).random(system.nodes), jnp.float32)
    together = jax.jit(lambda shared, v: shared.unpack()(v))(share(step), v)
    np.testing.assert_allclose(together, step(v), rtol=1e-6)


def test_traced_arrays_are_shared_only_with_themselves():
    def count(x, y):
        assert len(share((x, y, x)).held) == 2
        return x + y

    jax.jit(count)(jnp.arange(3), jnp.arange(3))
