"""Corrected diffusion: its operators, its order, its stability and the velocities it gives."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tissues import passive, random_mesh

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer
from cardiotwin.ionic.ten_tusscher_2006 import TenTusscherPanfilov2006
from cardiotwin.propagation.corrected import CorrectedDiffusion, largest_corrected_step
from cardiotwin.propagation.correction import PLANE, share
from cardiotwin.propagation.elements import elements_of
from cardiotwin.propagation.scheme import Godunov, ImplicitDiffusion
from cardiotwin.propagation.velocity import velocity_curve

DIFFUSIVITY = (0.3, 0.1, 0.05)
MESH = random_mesh(40, 4)


def corrected_system(mesh, diffusivity=DIFFUSIVITY):
    problem = passive(mesh, np.zeros(len(mesh.points)), diffusivity)
    return problem.discretise(corrected=True)


def step_matrix(system, dt, **options):
    """The matrix of one step, in the order of the rows."""
    step = CorrectedDiffusion(**options).setup(system, dt, jnp.float64)
    return np.stack([np.asarray(step(jnp.asarray(e))) for e in np.eye(system.nodes)], axis=1)


def operator(system, edges):
    """M^-1 times the operator with these edge weights, dense."""
    first, second = system.pattern.edges.T
    dense = np.zeros((system.nodes, system.nodes))
    dense[first, second] = dense[second, first] = edges
    return (dense - np.diag(dense.sum(axis=1))) / system.mass[:, None]


def test_tensor_of_an_element_makes_stiffness_the_consistent_mass():
    # K((sum of d d^T) / 20) has the entries V / 20 of the mass, with the sign of a diffusion
    elements = elements_of(MESH, passive(MESH, np.zeros(len(MESH.points)), DIFFUSIVITY).tissue)
    steps = elements.steps()
    expected = np.repeat(elements.volumes[:, None] / 20.0, 6, axis=1)
    found = elements.stiffness(np.einsum("eki,ekj->eij", steps, steps))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(np.tile(elements.mass_shares(), (len(expected), 1)), 1.0 / 20.0)


def test_part_across_the_fibres_is_the_whole_without_that_along():
    system = corrected_system(MESH)
    along = passive(MESH, np.zeros(len(MESH.points)), (0.3, 1e-12, 1e-12)).discretise()
    np.testing.assert_allclose(
        np.asarray(system.diffusion_edges) - np.asarray(system.correction.across),
        np.asarray(along.diffusion_edges),
        atol=1e-12,
    )


def test_step_is_the_polynomial_of_the_documentation():
    system = corrected_system(MESH)
    dt = 0.7 * largest_corrected_step(system)
    correction = system.correction
    whole = operator(system, np.asarray(system.diffusion_edges))
    across = operator(system, np.asarray(correction.across))
    e_f = -operator(system, np.asarray(correction.along_smoothing))
    e_t = -operator(system, np.asarray(correction.across_smoothing))
    e_m = -operator(system, np.asarray(correction.mixed_smoothing))
    expected = (
        np.eye(system.nodes)
        + dt * whole
        + dt**2 / 2 * whole @ whole
        + dt * ((e_f + e_m) @ (whole - across) + e_t @ across)
    )
    np.testing.assert_allclose(step_matrix(system, dt), expected, atol=1e-13)
    # two sub-steps are the square of one
    half = step_matrix(system, dt / 2)
    np.testing.assert_allclose(step_matrix(system, dt, substeps=2), half @ half, atol=1e-13)


def test_step_keeps_constants_and_the_integral():
    system = corrected_system(MESH)
    step = step_matrix(system, 0.9 * largest_corrected_step(system))
    np.testing.assert_allclose(step.sum(axis=1), 1.0, rtol=1e-13)
    np.testing.assert_allclose(system.mass @ step, system.mass, rtol=1e-12)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_largest_step_is_stable_and_twice_that_is_refused(strength):
    system = corrected_system(random_mesh(60, 2))
    dt = largest_corrected_step(system, strength)
    radius = np.abs(scipy.linalg.eigvals(step_matrix(system, dt, strength=strength))).max()
    assert radius <= 1 + 1e-10
    diffusion = CorrectedDiffusion(strength=strength, substeps=1)
    with pytest.raises(ValueError, match=r"unstable at dt = .* give substeps=2") as error:
        diffusion.setup(system, 2 * dt, jnp.float64)
    named = float(re.search(r"this mesh is ([0-9.e-]+) ms", str(error.value)).group(1))
    assert named == pytest.approx(dt, rel=1e-3)


@pytest.mark.convergence
@pytest.mark.parametrize("axis", [0, 1])
def test_fourth_order_in_space_along_an_axis_of_the_mesh(axis):
    # with a front that is well resolved the share is one half, which removes the leading error; at
    # the middle of the block two passes meet no boundary
    errors = []
    for h in (0.2, 0.1, 0.05):
        mesh = slab((6 * h,) * 3, h)
        problem = passive(mesh, np.zeros(len(mesh.points)), (0.1, 0.1, 0.1))
        slow = type("Slow", (type(problem.cell),), {"upstroke_rate": 1e-12})()
        problem = type(problem)(mesh, problem.tissue, slow, problem.stimulus)
        system = problem.discretise(corrected=True)
        middle = np.linalg.norm(system.points - 3 * h, axis=1).argmin()
        mode = np.cos(2.0 * (system.points[:, axis] - 3 * h))
        whole = operator(system, np.asarray(system.diffusion_edges))
        across = operator(system, np.asarray(system.correction.across))
        e_f = -operator(system, np.asarray(system.correction.along_smoothing))
        e_t = -operator(system, np.asarray(system.correction.across_smoothing)) / PLANE
        rate = (whole + e_f @ (whole - across) + e_t @ across) @ mode
        errors.append(rate[middle] / (-0.1 * 2.0**2) - 1)
    slopes = np.log2(np.abs(errors[:-1]) / np.abs(errors[1:]))
    assert slopes == pytest.approx(4.0, abs=0.05)


def test_share_starts_at_one_half_and_grows():
    x = np.linspace(0.0, 6.0, 100)
    assert share(0.0) == 0.5
    assert np.all(np.diff(share(x)) > 0)
    # by bars of TTP06 at dt 0.01: the share at which they carry a wave at its converged velocity
    assert share(np.array([1.3, 2.6, 4.45])) == pytest.approx([0.964, 1.83, 3.31], rel=0.03)


def test_refuses_what_cannot_be():
    system = passive(MESH, np.zeros(len(MESH.points))).discretise()
    with pytest.raises(ValueError, match="assembled without the correction"):
        CorrectedDiffusion().setup(system, 0.01, jnp.float64)
    with pytest.raises(ValueError, match="strength is -1"):
        CorrectedDiffusion(strength=-1)
    with pytest.raises(ValueError, match="substeps is 0; give 1 to 64"):
        CorrectedDiffusion(substeps=0)
    with pytest.raises(ValueError, match=r"would need \d+ sub-steps"):
        CorrectedDiffusion().setup(corrected_system(MESH), 1e5, jnp.float64)


@pytest.mark.convergence
@pytest.mark.parametrize(
    ("cell", "ratios"),
    [
        (MitchellSchaeffer(), (0.65, 1.3, 2.6)),
        (TenTusscherPanfilov2006.epi(), (0.4, 0.65, 1.3)),
    ],
    ids=["Mitchell-Schaeffer", "TTP06"],
)
def test_velocity_on_coarse_bars_is_closer_to_the_continuum_than_with_a_blended_mass(cell, ratios):
    errors = []
    for diffusion in (CorrectedDiffusion(), ImplicitDiffusion()):
        curve = velocity_curve(cell, dt=0.05, scheme=Godunov(diffusion), ratios=ratios)
        errors.append(np.abs(curve.g[1:] / curve.g[0] - 1))
    corrected, blended = errors
    assert np.all(corrected < 0.02)
    assert np.all(corrected < 0.75 * blended)
