"""The parabolic step by conjugate gradients: against Chebyshev iteration, and its derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tissues import passive, random_mesh, straight_fibres

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import Godunov, ImplicitDiffusion
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus

ITERATION = "conjugate_gradients"
MESHES = {"random": lambda: random_mesh(40, 1), "slab": lambda: slab((3.0, 2.0, 1.0), 0.5)}


@pytest.fixture(scope="module", params=sorted(MESHES))
def system(request):
    mesh = MESHES[request.param]()
    return passive(mesh, np.zeros(len(mesh.points)), (0.3, 0.1, 0.05)).discretise()


@eqx.filter_jit
def advance(step, v):
    return step(v)


def both(system, dt, tolerance, dtype=jnp.float64):
    return (
        ImplicitDiffusion(tolerance=tolerance, iteration=name).setup(system, dt, dtype)
        for name in ("chebyshev", ITERATION)
    )


@pytest.mark.parametrize("dt", [0.05, 5.0])
@pytest.mark.parametrize("tolerance", [3e-3, 1e-10])
def test_step_is_that_of_chebyshev_to_the_tolerance(system, dt, tolerance):
    fixed, adaptive = both(system, dt, tolerance)
    v = jnp.asarray(np.random.default_rng(0).normal(size=system.nodes))
    found, other = advance(adaptive, v) - v, advance(fixed, v) - v
    norm = jnp.linalg.norm
    # in the norm of the diagonal each is within its tolerance, times the condition for the residual
    exact = next(both(system, dt, 1e-13))
    change, root = advance(exact, v) - v, adaptive.solver.root
    low, high = np.linalg.eigvalsh(np.asarray(jax.vmap(adaptive.solver.matrix)(jnp.eye(len(v)))))[
        [0, -1]
    ]
    size = norm(change / root)
    assert norm((found - change) / root) <= (high / low * tolerance + 1e-12) * size
    assert norm((found - other) / root) <= ((1 + high / low) * tolerance + 1e-12) * size
    report = eqx.filter_jit(lambda step, v: step.check(v))(adaptive, v)
    assert 0 < report["residual"] <= tolerance * (1 + 1e-6) + 1e-14
    assert 0 < report["iterations"] <= adaptive.solver.most
    # no more than its theory says, which is that of Chebyshev iteration
    assert report["iterations"] <= adaptive.stats()["conjugate_gradients_most"] // 2


def test_rest_takes_no_iteration_and_stays_at_rest(system):
    _, step = both(system, 0.05, 1e-5, jnp.float32)
    v = jnp.full(system.nodes, -85.23, jnp.float32)
    np.testing.assert_array_equal(advance(step, v), v)
    assert step.check(v)["iterations"] == 0


def test_precision_limits_the_tolerance(system):
    with pytest.raises(ValueError, match=r"conjugate gradients is 1e-08; in float32 .* 2e-06 and"):
        tuple(both(system, 0.05, 1e-8, jnp.float32))
    with pytest.raises(ValueError, match="in float64 give a number between 4e-15 and 1"):
        ImplicitDiffusion(tolerance=1e-16, iteration=ITERATION).setup(system, 0.05, jnp.float64)
    with pytest.raises(ValueError, match="iteration is 'jacobi'; give 'chebyshev' or"):
        ImplicitDiffusion(iteration="jacobi")


# -- Through a run ---------------------------------------------------------------------------------

SLAB = slab((4.0, 1.0, 1.0), 0.5)
END = np.unique(SLAB.surfaces["x1"])


def run(diffusivity=0.5, iteration=ITERATION, **options):
    stimulus = NodalStimulus(np.unique(SLAB.surfaces["x0"]), amplitude=100.0, duration=1.0)
    sigma = 2.0 * diffusivity * np.ones((len(SLAB.cells), 3))
    tissue = Tissue(straight_fibres(SLAB), sigma, sigma, chi=1.0, c_m=1.0)
    problem = Monodomain(SLAB, tissue, MitchellSchaeffer(), stimulus)
    scheme = Godunov(ImplicitDiffusion(tolerance=1e-11, iteration=iteration))
    observe = {"activation": ActivationTime(-20.0)}
    options = {
        "scheme": scheme,
        "precision": "float64",
        "every": 5.0,
        "observe": observe,
        **options,
    }
    return solve(problem, 10.0, dt=0.05, **options)


def arrival(diffusivity):
    return run(diffusivity).observed["activation"][END].mean()


def test_run_is_that_of_chebyshev_and_says_its_iterations():
    found, other = run(), run(iteration="chebyshev")
    times = np.asarray(found.observed["activation"])
    assert np.isfinite(times).all()
    assert np.ptp(times) > 2.0
    np.testing.assert_allclose(times, other.observed["activation"], atol=1e-8)
    assert 0 < found.stats["iterations"] <= other.stats["iterations"]
    assert other.stats["iterations"] == other.stats["chebyshev_iterations"]
    assert found.stats["residual"] < 1e-10


def test_derivatives_in_both_modes_without_bounds():
    """Conductivities are traced: Chebyshev iteration would need `frozen`, this does not."""
    forwards = jax.jit(lambda d: jax.jvp(arrival, (d,), (1.0,)))
    _, slope = forwards(0.5)
    _, gradient = jax.jit(jax.value_and_grad(arrival))(0.5)
    step = 1e-5
    difference = (forwards(0.5 + step)[0] - forwards(0.5 - step)[0]) / (2 * step)
    assert abs(slope) > 1.0
    assert float(gradient) == pytest.approx(float(slope), rel=1e-8)
    assert float(slope) == pytest.approx(float(difference), rel=1e-5)


def test_batch_of_conductivities():
    together = jax.jit(jax.vmap(arrival))(jnp.array([0.4, 0.5]))
    assert abs(together[1] - together[0]) > 0.1
    for diffusivity, found in zip((0.4, 0.5), together, strict=True):
        alone = run(diffusivity, "chebyshev").observed["activation"][END].mean()
        assert float(found) == pytest.approx(float(alone), abs=1e-8)


def test_two_devices_give_the_same():
    alone, spread = run(), run(devices=2)
    np.testing.assert_allclose(
        spread.observed["activation"], alone.observed["activation"], atol=1e-9
    )
    assert spread.stats["iterations"] == alone.stats["iterations"]
