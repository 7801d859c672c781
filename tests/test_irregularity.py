"""How irregular elements err, and that the correction allows for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from tissues import passive

from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.fem import p1_geometry, stiffness_matrix
from cardiotwin.propagation import irregularity
from cardiotwin.propagation.elements import Tetrahedra, elements_of

ANISOTROPIC = (0.0952, 0.0126, 0.0126)  # mm2/ms, of the N-version benchmark


def jittered(h):
    """A slab of Kuhn's tetrahedra whose inner nodes are moved by up to a fifth of an edge."""
    size = np.array([2.5, 2.0, 2.0])
    mesh = slab(tuple(size), h)
    inside = np.all((mesh.points > 1e-9) & (mesh.points < size - 1e-9), axis=1)
    step = np.random.default_rng(0).uniform(-0.2 * h, 0.2 * h, mesh.points.shape)
    return Mesh(mesh.points + inside[:, None] * step, mesh.cells)


def found_on(mesh, diffusivity=ANISOTROPIC):
    """The system, and what is found on its mesh."""
    problem = passive(mesh, np.zeros(len(mesh.points)), diffusivity)
    system, tissue = problem.discretise(), problem.tissue
    elements = elements_of(mesh, tissue)
    assert isinstance(elements, Tetrahedra)
    spent = irregularity.spent(elements, tissue.diffusion(), tissue, system.pattern, mesh.cells)
    return problem, spent, irregularity.excess(spent, system.pattern, system.diffusion_edges)


@pytest.mark.parametrize("pattern", ["kuhn", "alternating"])
def test_lattices_do_not_err_more_than_lattices(pattern):
    mesh = slab((4.0, 3.0, 2.0), 0.25, pattern=pattern)
    *_, excess = found_on(mesh)
    assert excess == irregularity.LATTICE
    assert found_on(slab((4.0, 3.0, 2.0), 0.25, pattern="bcc"))[2].across > 0.5


def test_irregular_tetrahedra_err_most_across_fibres_that_conduct_better():
    mesh = jittered(0.25)
    even = found_on(mesh, (0.0126,) * 3)[2]
    uneven = found_on(mesh)[2]
    assert uneven.across > 4 * even.across > 0.0


def test_energies_are_those_of_the_best_linear_functions():
    # the least energy of (a.x)^2 / 2 - u over all piecewise linear u, by quadrature and elimination
    mesh = jittered(0.5)
    problem, spent, _ = found_on(mesh)
    system = problem.discretise()
    axis = np.array([0.5**0.5, 0.5**0.5, 0.0])  # the first of the directions at 45 degrees
    tensor = np.diag(ANISOTROPIC)
    gradients, volumes = p1_geometry(mesh.points, mesh.cells)
    corners = mesh.points[mesh.cells]
    # four points that integrate quadratics on a tetrahedron exactly
    near, far = (5 + 3 * 5**0.5) / 20, (5 - 5**0.5) / 20
    points = np.einsum("qc,eci->eqi", far + (near - far) * np.eye(4), corners)
    slope = np.einsum("eq,i->eqi", points @ axis, axis)  # of (a.x)^2 / 2
    load = np.einsum("e,eci,ij,eqj->ec", volumes / 4, gradients, tensor, slope)
    b = np.bincount(mesh.cells.ravel(), load.ravel())
    matrix = stiffness_matrix(mesh.points, mesh.cells, np.tile(tensor, (len(mesh.cells), 1, 1)))
    u = scipy.sparse.linalg.spsolve(matrix[1:, 1:], b[1:])
    energy = np.einsum("e,eqi,ij,eqj->", volumes / 4, slope, tensor, slope)
    least = energy - b[1:] @ u
    direction = 1 + irregularity.ACROSS
    free = np.full(system.nodes, True)  # on the surface, too
    gain = irregularity._gains(system.pattern, system.diffusion_edges, spent.forces, free)[
        direction
    ]
    whole = spent.interpolation[direction]
    assert whole - gain == pytest.approx(least, rel=0.03)
    assert whole - gain >= least * (1 - 1e-9)  # conjugate gradients approach it from above
    assert whole > 1.05 * least  # so that leaving them out would show


def test_jax_finds_what_numpy_finds_and_can_be_differentiated():
    mesh = jittered(0.5)
    problem, spent, excess = found_on(mesh)
    system = problem.discretise()

    def of(edges):
        forces = spent._replace(forces=jnp.asarray(spent.forces))
        return irregularity.excess(forces, system.pattern, edges)

    edges = jnp.asarray(system.diffusion_edges)
    np.testing.assert_allclose(jnp.stack(of(edges)), np.stack(excess), rtol=1e-10)
    direction = edges * np.random.default_rng(0).uniform(-1, 1, edges.shape)
    _, slope = jax.jvp(lambda e: jnp.stack(of(e)), (edges,), (direction,))
    step = 1e-6
    ahead, behind = (jnp.stack(of(edges + s * direction)) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-9)
