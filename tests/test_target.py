"""Loops of stages, written for a GPU and for a CPU: the same numbers in two forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cardiotwin as ct
from cardiotwin.numerics import target
from cardiotwin.propagation.adjoint import FORWARD

DIFFUSIONS = {
    "implicit": ct.ImplicitDiffusion(),
    "explicit": ct.ExplicitDiffusion(stages=4),
    "corrected": ct.CorrectedDiffusion(substeps=3),
}


@pytest.fixture(params=DIFFUSIONS)
def step(request):
    """A parabolic step of several stages, and a voltage to move by it."""
    mesh = ct.slab((3.0, 1.0, 1.0), 0.5)
    tissue = ct.Tissue.by_region(mesh, ct.fibres_from_mesh(mesh), ct.Conductivity())
    stimulus = ct.BoxStimulus((0.0,) * 3, (0.6,) * 3)
    diffusion = DIFFUSIONS[request.param]
    problem = ct.Monodomain(mesh, tissue, ct.MitchellSchaeffer(), stimulus)
    system = problem.discretise(corrected=diffusion.corrects)
    v = jnp.asarray(np.random.default_rng(0).normal(-40.0, 30.0, system.nodes), jnp.float64)
    return diffusion.setup(system, 0.1, jnp.float64), v


def forms(function, *arguments):
    """The result of a function written for either platform."""

    def traced(platform):
        with target.written_for(platform):
            return jax.jit(lambda *a: function(*a))(*arguments)

    return traced("cpu"), traced("gpu")


def loops(function, platform, *arguments) -> int:
    with target.written_for(platform):
        text = str(jax.make_jaxpr(lambda *a: function(*a))(*arguments))
    return text.count("while[") + text.count("scan[")


def test_stages_are_written_out_for_a_gpu_only(step):
    move, v = step
    assert loops(move, "cpu", v) == 1
    assert loops(move, "gpu", v) == 0


def test_what_is_gathered_lies_in_memory_on_a_gpu(step):
    move, v = step
    with target.written_for("gpu"):
        text = str(jax.make_jaxpr(lambda v: move(v))(v))
    assert "optimization_barrier" in text
    assert "optimization_barrier" not in str(jax.make_jaxpr(lambda v: move(v))(v))


@pytest.mark.parametrize("transform", ["value", "gradient", "tangent", "batch"])
def test_both_forms_give_the_same(step, transform):
    move, v = step

    def energy(v):
        return jnp.sum(move(v) ** 2)

    function = {
        "value": move,
        "gradient": jax.grad(energy),
        "tangent": lambda v: jax.jvp(energy, (v,), (jnp.sin(v),)),
        "batch": jax.vmap(move),
    }[transform]
    cpu, gpu = forms(function, jnp.stack([v, 0.5 * v]) if transform == "batch" else v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), cpu, gpu)


def test_many_stages_stay_in_a_loop():
    def count(stages):
        return loops(lambda x: target.repeat(stages, lambda k, c: c * k, x), "gpu", 1.0)

    assert count(target.MOST_WRITTEN_OUT) == 0
    assert count(target.MOST_WRITTEN_OUT + 1) == 1


def test_the_platform_is_that_of_jax_unless_named():
    assert not target.on_gpu()
    with target.written_for("gpu"):
        assert target.on_gpu()
        with target.written_for("cpu"):
            assert not target.on_gpu()
        assert target.on_gpu()
    assert not target.on_gpu()


@pytest.mark.parametrize("trips", [1, 2, 5, 8])
def test_the_time_loop_takes_every_step_once(trips):
    def steps(x):
        return FORWARD.steps(lambda i, c: 2.0 * c + i, x, trips, unroll=2)

    cpu, gpu = forms(steps, jnp.asarray(1.0))
    expected = 1.0
    for i in range(trips):
        expected = 2.0 * expected + i
    assert float(cpu) == float(gpu) == expected
