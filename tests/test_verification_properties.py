"""What every discretisation must keep of the equation: sums, bounds, symmetries, invariances."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tissues import NEVER, passive, random_mesh, uniform_tissue
from verification import PATTERNS, SCHEMES, implicit, joined

from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.numerics.rows import row_sums
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import (
    ExplicitDiffusion,
    ImplicitDiffusion,
    largest_explicit_step,
)
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus

every_scheme = pytest.mark.parametrize("name", SCHEMES)
seeds = st.integers(0, 2**32 - 1)


@eqx.filter_jit
def repeat(step, v, times):
    """Voltages after 0, 1, ... `times` parabolic steps, [times + 1, nodes]."""
    _, found = jax.lax.scan(lambda x, _: (step(x),) * 2, v, None, length=times)
    return jnp.concatenate([v[None], found])


def diffuse(step, v, times=4):
    return np.asarray(repeat(step, jnp.asarray(v, float), times))


# diffusion alone, on unstructured meshes with fibres in another direction in every element


def oblique(mesh, seed=0):
    """The discrete diffusion of random frames."""
    axes = Rotation.random(len(mesh.cells), rng=seed).as_matrix()
    sigma = np.tile(2.0 * np.array([0.3, 0.1, 0.05]), (len(mesh.cells), 1))
    tissue = Tissue(Fibres(axes[:, 0], axes[:, 1], axes[:, 2]), sigma, sigma, chi=1.0, c_m=1.0)
    return Monodomain(mesh, tissue, MitchellSchaeffer(), NEVER).discretise(corrected=True)


UNSTRUCTURED = random_mesh(40, 1)
SYSTEM = oblique(UNSTRUCTURED)


def rate(x):
    """L x, summed edge by edge."""
    first, second = SYSTEM.pattern.edges.T
    flow = np.asarray(SYSTEM.diffusion_edges) * (x[second] - x[first])
    return np.bincount(first, flow, SYSTEM.nodes) - np.bincount(second, flow, SYSTEM.nodes)


def asymmetry(u, v, after_u, after_v):
    """<u, L S v> - <v, L S u>, relative: 0 for a step S that is symmetric in the energy of L."""
    return (rate(u) @ after_v - rate(v) @ after_u) / np.sqrt((u @ rate(u)) * (v @ rate(v)))


@pytest.mark.convergence
def test_correction_is_not_reciprocal(tabulate):
    # it multiplies by two operators that do not commute
    u, v = np.random.default_rng(0).normal(size=(2, SYSTEM.nodes))
    for name, case in SCHEMES.items():
        step = case.scheme.diffusion.setup(SYSTEM, 0.02, jnp.float64)
        found = asymmetry(u, v, diffuse(step, u)[-1], diffuse(step, v)[-1])
        tabulate(
            "7b. Reciprocity: relative difference of <u, L S v> and <v, L S u>",
            scheme=name,
            difference=abs(found),
        )
        assert (abs(found) < 1e-11) == case.reciprocal


@pytest.mark.parametrize("dt", [0.02, 0.4])
@every_scheme
def test_diffusion_conserves_is_reciprocal_and_dissipates(name, dt):
    case = SCHEMES[name]
    step = case.scheme.diffusion.setup(SYSTEM, dt, jnp.float64)

    @settings(max_examples=25, deadline=None)
    @given(seed=seeds)
    def check(seed):
        u, v = np.random.default_rng(seed).uniform(-85.0, 40.0, (2, SYSTEM.nodes))
        after_u, after_v = diffuse(step, u), diffuse(step, v)
        integral = after_v @ SYSTEM.mass / SYSTEM.mass.sum()
        # explicit steps to rounding, solves to theirs: 1e-12 of the change of the voltage
        np.testing.assert_allclose(integral, integral[0], rtol=0.0, atol=1e-10)
        if case.reciprocal:
            assert abs(asymmetry(u, v, after_u[-1], after_v[-1])) < 1e-11
            # no mode grows
            energy = np.array([-x @ rate(x) for x in after_v])
            assert np.all(np.diff(energy) <= 1e-12 * energy[0])
            assert energy[-1] < 0.95 * energy[0]

    check()


# the maximum principle, and where it does not hold


def cube(pattern):
    return slab((2.0, 2.0, 2.0), 0.5, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", [name for name, case in SCHEMES.items() if case.monotone])
def test_maximum_principle(name, pattern):
    # these lattices have no obtuse dihedral angle: no off-diagonal entry of L is negative
    mesh = cube(pattern)
    system = passive(mesh, np.zeros(mesh.nodes), (0.2,) * 3).discretise()
    assert np.asarray(system.diffusion_edges).min() > -1e-15
    dt = 0.99 * min(SCHEMES[name].monotone, 20.0) * positive_step(system)
    step = SCHEMES[name].scheme.diffusion.setup(system, dt, jnp.float64)

    @settings(max_examples=20, deadline=None)
    @given(seed=seeds, share=st.floats(0.02, 0.98))
    def check(seed, share):
        # zeros and ones: the roughest there are
        v = diffuse(step, np.random.default_rng(seed).uniform(size=mesh.nodes) < share)
        assert np.all(np.diff(v.max(axis=1)) <= 1e-12)
        assert np.all(np.diff(v.min(axis=1)) >= -1e-12)

    check()


def positive_step(system):
    """Longest step of forward Euler whose matrix has no negative entry, ms."""
    diagonal = row_sums(system.pattern, np.asarray(system.diffusion_edges))
    return float((system.mass / diagonal).min())


def undershoot(problem, diffusion, dt):
    """Least value after one step from 1 at a single node and 0 elsewhere, over all nodes."""
    system = problem.discretise()
    step = diffusion.setup(system, dt, jnp.float64)
    return float(jax.jit(jax.vmap(step))(jnp.eye(system.nodes)).min())


@pytest.mark.convergence
def test_where_the_maximum_principle_fails(tabulate):
    # facts to know, not defects: the theorems ask for more than these have
    kuhn = cube("kuhn")
    rest = np.zeros(kuhn.nodes)
    plain = passive(kuhn, rest, (0.2,) * 3)
    system = plain.discretise()
    limit, positive = largest_explicit_step(system), positive_step(system)
    short = 0.1 * limit
    turned = np.tile(
        Rotation.from_euler("z", 45, degrees=True).as_matrix().T, (kuhn.elements, 1, 1)
    )
    sigma = np.tile(2.0 * np.array([0.2, 0.02, 0.02]), (kuhn.elements, 1))
    fibres = Fibres(turned[:, 0], turned[:, 1], turned[:, 2])
    tissue = Tissue(fibres, sigma, sigma, chi=1.0, c_m=1.0)
    across = Monodomain(kuhn, tissue, MitchellSchaeffer(), NEVER)
    obtuse = passive(UNSTRUCTURED, np.zeros(UNSTRUCTURED.nodes), (0.2,) * 3)
    cases = {
        "consistent mass, short step": (plain, ImplicitDiffusion(1.0, 1.0, 1e-12), short),
        "two thirds consistent, short step": (plain, implicit(), short),
        "Crank-Nicolson, lumped, long step": (plain, implicit(0.0), 10.0 * limit),
        "explicit, longest stable step": (plain, ExplicitDiffusion(1), limit),
        # on a line they would keep to it, in space they do not
        "explicit, 2 stages, 3 positive steps": (plain, ExplicitDiffusion(2), 3 * positive),
        "obtuse tetrahedra, explicit": (obtuse, ExplicitDiffusion(), 0.01),
        "fibres across the diagonals, explicit": (across, ExplicitDiffusion(), short),
    }
    for name, (problem, diffusion, dt) in cases.items():
        least = undershoot(problem, diffusion, dt)
        title = "7. Where the maximum principle fails: least voltage one step after a spike of 1"
        tabulate(title, case=name, least=least)
        assert least < -1e-3


# a wave, which must not know how its mesh is described


class Copy(NamedTuple):
    """A block, and which node of the first of its kind every node of it is."""

    mesh: Mesh
    frame: np.ndarray  # fibre, sheet and normal, rows
    twin: np.ndarray


def moved(mesh, frame, seed):
    """The block and its fibres turned and shifted."""
    random = np.random.default_rng(seed)
    turn, shift = Rotation.random(rng=random).as_matrix(), random.uniform(-50.0, 50.0, 3)
    return Copy(
        Mesh(mesh.points @ turn.T + shift, mesh.cells), frame @ turn.T, np.arange(mesh.nodes)
    )


def renumbered(mesh, frame, seed):
    """The block with nodes, elements and the corners of each element in another order."""
    random = np.random.default_rng(seed)
    order = random.permutation(mesh.nodes)
    cells = random.permutation(np.argsort(order)[mesh.cells])
    even = np.array([[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3], [1, 0, 3, 2]])  # of positive volume
    cells = np.take_along_axis(cells, even[random.integers(4, size=len(cells))], axis=1)
    return Copy(Mesh(mesh.points[order], cells), frame, order)


def mirrored(mesh, frame, image):
    """The block as it is: its nodes are those of its mirror image."""
    centre = mesh.points.mean(axis=0)
    there = (mesh.points - centre) @ image + centre
    distance = np.abs(there[:, None] - mesh.points[None]).max(axis=2)
    assert distance.min(axis=1).max() < 1e-12  # the lattice has this symmetry
    return Copy(mesh, frame, distance.argmin(axis=1))


def activation(copies, focus, scheme):
    """Activation times of every copy, ms, all in one run; the wave starts around `focus`."""
    mesh, starts = joined([copy.mesh for copy in copies])
    frames = np.concatenate([np.tile(c.frame, (c.mesh.elements, 1, 1)) for c in copies])
    tissue = uniform_tissue(mesh, (0.3, 0.15, 0.2))
    tissue = eqx.tree_at(
        lambda t: t.fibres, tissue, Fibres(frames[:, 0], frames[:, 1], frames[:, 2])
    )
    stimulated = [np.flatnonzero(focus[copy.twin]) for copy in copies]
    stimulus = NodalStimulus(
        np.concatenate([s + k for s, k in zip(stimulated, starts, strict=False)])
    )
    solution = solve(
        Monodomain(mesh, tissue, MitchellSchaeffer(), stimulus),
        16.0,
        dt=0.05,
        scheme=scheme,
        observe={"activation": ActivationTime(-20.0)},
        every=16.0,
        precision="float64",
    )
    times = np.asarray(solution.observed["activation"])
    assert np.isfinite(times).all()
    assert np.ptp(times) > 1.0
    return np.split(times, starts[1:-1])


@every_scheme
def test_wave_is_the_same_wherever_and_however_its_mesh_is_given(name):
    mesh = slab((4.0, 2.0, 3.0), 1.0, "bcc")
    frame = Rotation.from_euler("xyz", [20.0, 30.0, 40.0], degrees=True).as_matrix().T
    copies = [Copy(mesh, frame, np.arange(mesh.nodes))]
    copies += [moved(mesh, frame, seed) for seed in range(4)]
    copies += [renumbered(mesh, frame, seed) for seed in range(4)]
    corner = np.linalg.norm(mesh.points, axis=1) < 1.2
    first, *others = activation(copies, corner, SCHEMES[name].scheme)
    for copy, times in zip(copies[1:], others, strict=True):
        np.testing.assert_allclose(times, first[copy.twin], rtol=0.0, atol=1e-9)


FLIPS = [np.diag(signs) for signs in ([-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0])]
# images that leave a lattice as it is; the diagonals of "kuhn" all point one way
IMAGES = {"alternating": FLIPS, "bcc": FLIPS, "kuhn": [-np.eye(3)]}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ["Godunov", "Godunov, explicit"])
def test_symmetric_problem_keeps_its_symmetry(name, pattern):
    mesh = slab((4.0, 4.0, 4.0), 1.0, pattern)
    middle = np.linalg.norm(mesh.points - 2.0, axis=1) < 1.2
    block = Copy(mesh, np.eye(3), np.arange(mesh.nodes))
    (times,) = activation([block], middle, SCHEMES[name].scheme)
    for image in IMAGES[pattern]:
        twin = mirrored(mesh, np.eye(3), image).twin
        assert np.any(twin != np.arange(mesh.nodes))
        np.testing.assert_allclose(times[twin], times, rtol=0.0, atol=1e-9)
