"""Runs spread over devices: partitions, halo exchange, and the same solution as on one device."""

import importlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from spreads import OPTIONS, problem
from test_rows import HEARTS
from test_solve import assert_equal_trees

from cardiotwin.anatomy.idealised import slab
from cardiotwin.numerics.halo import NODES, halo_operator, partitioned_rows
from cardiotwin.numerics.partition import (
    bisect,
    exchange_rounds,
    ghost_nodes,
    partition,
    partition_quality,
)
from cardiotwin.numerics.rows import difference_operator, row_pattern
from cardiotwin.propagation.observe import ActivationTime, Snapshots
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, Strang
from cardiotwin.propagation.solve import solve
from cardiotwin.run.experiment import Experiment, Output, Solver
from cardiotwin.run.simulate import simulate
from cardiotwin.tissue.stimulus import BoxStimulus
from cardiotwin.twin import Cells, MeshFibres, Myocardium

BAR = slab((8.0, 1.0, 1.0), 1.0)  # nine planes of four nodes


# partitions


def test_bisection_cuts_across_the_long_axis():
    edges = BAR.unique_edges()
    part = bisect(BAR.points, 3)
    x = BAR.points[:, 0]
    assert [sorted(set(x[part == k])) for k in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    found = partition_quality(part, edges)
    # each cut is seen by the four nodes on either side; a middle part has two of them
    assert found.imbalance == 0.0
    assert (found.halo, found.largest_halo, found.neighbours) == (16, 8, 2)
    across = x[edges[:, 0]] != x[edges[:, 1]]
    assert found.cut_edges == across.sum() / 8 * 2


@given(nodes=st.integers(1, 60), seed=st.integers(0, 9), data=st.data())
@settings(deadline=None, max_examples=40)
def test_bisection_is_even_for_any_number_of_parts(nodes, seed, data):
    parts = data.draw(st.integers(1, nodes))
    points = np.random.default_rng(seed).integers(0, 3, (nodes, 3)).astype(float)  # many coincide
    size = np.bincount(bisect(points, parts), minlength=parts)
    assert size.max() - size.min() <= 1
    assert size.min() >= 1


def test_metis_has_the_smaller_halo_on_a_heart():
    pytest.importorskip("pymetis")  # only with the extra "metis"
    mesh = HEARTS["heart"]()
    edges = mesh.unique_edges()
    halos = []
    for method in ("bisection", "metis"):
        part = partition(mesh.points, edges, 8, method)
        assert np.bincount(part, minlength=8).min() > 0
        found = partition_quality(part, edges)
        assert found.imbalance < 0.05
        halos.append(found.halo)
    assert 0.5 * halos[0] < halos[1] < halos[0]


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))))
@settings(deadline=None)
def test_rounds_are_free_of_conflicts_and_as_few_as_can_be(messages):
    pairs = np.array(sorted(messages), int).reshape(-1, 2)
    rounds = exchange_rounds(pairs)
    for side in pairs.T:
        assert len(set(zip(side, rounds, strict=True))) == len(pairs)
    busiest = max((np.bincount(side).max() for side in pairs.T), default=0) if len(pairs) else 0
    assert rounds.max(initial=-1) + 1 == busiest


@pytest.mark.parametrize(
    ("parts", "method", "message"),
    [
        (37, "bisection", "A mesh of 36 nodes cannot be split into 37 parts"),
        (0, "bisection", "into 0 parts"),
        (2, "simple", "partition method is 'simple'; give one of .'bisection', 'metis'"),
        (2, np.zeros(36, int), r"leaves 1 of 2 parts empty \(part 1 first\)"),
        (2, np.arange(36), "names parts 0 to 35; for 2 devices give parts 0 to 1"),
        (2, np.full(36, -1), "names parts -1 to -1"),
        (
            2,
            np.zeros(35, int),
            r"shape \(35,\) and type int64; give one integer for each of the 36",
        ),
        (2, np.zeros(36), "type float64; give one integer"),
    ],
)
def test_bad_partitions(parts, method, message):
    with pytest.raises(ValueError, match=message):
        partition(BAR.points, BAR.unique_edges(), parts, method)


def test_metis_that_is_not_installed():
    with (
        mock.patch("importlib.util.find_spec", return_value=None),
        pytest.raises(ValueError, match=r"needs the package pymetis .pip install 'cardiotwin\[m"),
    ):
        partition(BAR.points, BAR.unique_edges(), 2, "metis")


# operators


def device_mesh(parts):
    return jax.make_mesh(
        (parts,), (NODES,), axis_types=(AxisType.Auto,), devices=jax.devices()[:parts]
    )


def operators(mesh, parts, part=None, **how):
    """The same random operator on one device and on several, and where the rows lie."""
    pattern = row_pattern(mesh.cells, len(mesh.points))
    part = bisect(mesh.points[pattern.order], parts) if part is None else part
    rows = partitioned_rows(pattern, part, **how)
    weights = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.0, len(pattern.edges)))
    one = difference_operator(pattern, weights)
    return one, halo_operator(rows, weights, device_mesh(parts)), rows, part, pattern


@eqx.filter_jit
def apply(operator, x):
    return operator(x)


@pytest.mark.parametrize(
    ("name", "parts", "most_padding", "collectives"),
    [
        ("random", 1, 4, 0),
        ("kuhn", 2, 4, 1),
        ("heart", 3, 0, 2),
        ("bcc", 3, 4, 1),
    ],
)
def test_many_devices_multiply_as_one(name, parts, most_padding, collectives):
    one, many, rows, *_ = operators(HEARTS[name](), parts, most_padding=most_padding)
    assert rows.collectives == collectives
    x = np.random.default_rng(1).normal(size=len(rows.slot))
    # what an unused slot holds must not matter
    slots = np.where(rows.used, x[rows.row], 1e9)
    y = np.asarray(apply(many, jnp.asarray(slots)))
    np.testing.assert_allclose(y[rows.slot], apply(one, jnp.asarray(x)), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(y[~rows.used], 0.0)


def test_uneven_and_scattered_parts():
    # no geometry: parts touch one another everywhere, and one has a single node
    mesh = HEARTS["random"]()
    part = np.random.default_rng(2).integers(0, 2, len(mesh.points))
    part[5] = 2
    one, many, rows, *_ = operators(mesh, 3, part)
    x = np.random.default_rng(1).normal(size=len(rows.slot))
    y = np.asarray(apply(many, jnp.asarray(x[rows.row])))
    np.testing.assert_allclose(y[rows.slot], apply(one, jnp.asarray(x)), rtol=0, atol=1e-13)
    assert rows.used.sum() == len(x) < rows.used.size


def test_layout_keeps_what_it_says():
    _, _, rows, part, pattern = operators(HEARTS["heart"](), 3, most_padding=0)
    np.testing.assert_array_equal(rows.row[rows.slot], np.arange(pattern.nodes))
    np.testing.assert_array_equal(rows.slot // rows.slots_per_part, part)
    assert sum(c.shape[1] for c in rows.columns) == 3 * rows.slots_per_part
    # inner slices read no halo, the others do
    for k, column in enumerate(rows.columns):
        assert (column.max() < rows.slots_per_part) == (k < rows.inner)
    # what is sent is the halo, and padding to the longest message of a round
    halo = len(ghost_nodes(part, pattern.edges))
    assert halo <= rows.halo_values() <= 1.2 * halo
    together = partitioned_rows(pattern, part)
    assert not together.rounds
    longest = np.unique(ghost_nodes(part, pattern.edges)[:, :2], axis=0, return_counts=True)[1]
    assert together.halo_values() == 6 * longest.max() <= 4 * halo


def test_derivatives_on_many_devices():
    one, many, rows, *_ = operators(HEARTS["kuhn"](), 3)
    random = np.random.default_rng(3)
    x, t, c = (jnp.asarray(random.normal(size=len(rows.slot))) for _ in range(3))

    def loss(operator, lay):
        return lambda x: jnp.vdot(lay(c), jnp.sin(operator(lay(x))))

    a = loss(one, lambda x: x)
    b = loss(many, lambda x: jnp.where(rows.used, x[rows.row], 0.0))
    (va, ta), (vb, tb) = (jax.jit(lambda x, t, f=f: jax.jvp(f, (x,), (t,)))(x, t) for f in (a, b))
    np.testing.assert_allclose([vb, tb], [va, ta], rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(b))(x), jax.jit(jax.grad(a))(x), atol=1e-12)


# runs


@pytest.fixture(scope="module")
def alone():
    return solve(problem(), **OPTIONS)


def distance(one, two):
    """Largest difference of two PyTrees, which must be infinite in the same places."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    worst = 0.0
    for a, b in ((np.asarray(a, float), np.asarray(b, float)) for a, b in pairs):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        here = np.isfinite(a)
        worst = max(worst, np.abs(a[here] - b[here]).max(initial=0.0))
    return worst


def results(solution):
    return solution.frames, solution.observed, solution.final.leaves


@pytest.fixture(scope="module")
def three():
    """Streamed by three devices, halfway first."""
    saved, frames = [], []
    solution = solve(
        problem(),
        **OPTIONS,
        devices=3,
        on_frame=frames.append,
        on_checkpoint=saved.append,
        checkpoint_seconds=0.0,
    )
    return solution, frames, saved


def test_two_devices_solve_as_one(alone):
    found = solve(problem(), **OPTIONS, devices=2)
    assert np.isfinite(alone.observed["activation"]).mean() > 0.9
    assert distance(results(found), results(alone)) < 1e-9
    assert found.stats["devices"] == 2
    assert found.stats["largest_part"] == 78
    # a plane of twelve nodes or thirteen on either side
    assert 24 <= found.stats["halo_nodes"] <= found.stats["halo_values_sent"] <= 26
    assert found.stats["residual"] == pytest.approx(alone.stats["residual"], rel=1e-9)


def test_three_devices_stream_as_one(alone, three):
    solution, frames, _ = three
    assert distance((solution.observed, solution.final.leaves), results(alone)[1:]) < 1e-9
    assert len(frames) == 7
    for k, frame in enumerate(frames):
        assert frame.v.shape == (156,)
        assert distance(frame.outputs, {n: x[k] for n, x in alone.frames.items()}) < 1e-9
    np.testing.assert_allclose(frames[-1].v[150], alone.frames["probe"][-1, 1], rtol=1e-12)


def test_checkpoints_go_on_with_another_number_of_devices(alone, three):
    _, _, saved = three
    half = saved[2]
    assert half.step == 120
    assert all(isinstance(leaf, np.ndarray) for leaf in half.leaves)
    onward = solve(problem(), **OPTIONS, initial=half)
    assert distance(onward.final.leaves, alone.final.leaves) < 1e-9


def test_checkpoints_go_on_bit_for_bit_with_the_same_devices(three):
    solution, _, saved = three
    onward = solve(
        problem(), **OPTIONS, initial=saved[2], devices=jax.devices()[:3], on_frame=lambda f: None
    )
    assert_equal_trees(onward.final, solution.final)


def test_strang_explicit_and_quiet_steps_in_single_precision():
    options = {
        "t1": 12.0,
        "dt": 0.05,
        "every": 2.0,
        "quiet_dt": 0.2,
        "scheme": Strang(ExplicitDiffusion()),
        "observe": {"activation": ActivationTime(-20.0), "v": Snapshots()},
    }
    one = solve(problem(), **options)
    many = solve(problem(), **options, devices=3)
    assert many.stats["quiet_share"] == one.stats["quiet_share"]
    # activation to a fifth of a microsecond, voltage to 1e-4 of the upstroke's 120 mV
    assert distance(many.observed, one.observed) < 2e-4
    assert distance(many.frames["v"], one.frames["v"]) < 1e-2


# what is exchanged


def test_steps_exchange_the_halo_and_nothing_else():
    module = importlib.import_module("cardiotwin.propagation.solve")
    function, calls = module._scan, []
    # the run ends where its program would be called
    keep = mock.Mock(side_effect=lambda *arguments: calls.append(arguments) or 1 / 0)
    with mock.patch.object(module, "_scan", keep), pytest.raises(ZeroDivisionError):
        solve(problem(), **OPTIONS, devices=3, scheme=Godunov(ExplicitDiffusion()))
    constant, carry, _ = calls[0]
    operator = constant.unpacked().loop.prepared.diffuse.rate
    text = function.lower(*calls[0]).compile().compiled.as_text()
    kinds = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    collective = re.compile(rf"= \(?\w+\[(\d*)\].* ({kinds})(?:-start)?\(")
    computations = [collective.findall(part) for part in text.split("\n}\n")]
    steps = [found for found in computations if any("all-to-all" in kind for _, kind in found)]
    # two steps a trip of the loop, one stage each, all at once
    (send,) = operator.sends
    assert len(send) // 9 < 20  # values for each device: a plane between them has 12 nodes
    assert steps == [[(str(len(send) // 9), "all-to-all")] * 2]
    # the voltage is gathered once a frame, outside
    gathered = [size for found in computations for size, kind in found if kind == "all-gather"]
    assert str(carry.state.v.size) in gathered


# two processes


def test_two_processes_solve_as_one(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = str(Path(__file__).with_name("two_processes.py"))
    root = str(Path(__file__).parents[1])
    running = [
        subprocess.Popen(
            [sys.executable, script, str(rank), port, str(tmp_path / f"{rank}.npz")],
            env=os.environ | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[0].decode() for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    both = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    for name in both[0].files:
        np.testing.assert_array_equal(both[0][name], both[1][name])
    found = both[0]
    leaves = [found[name] for name in sorted(found.files) if name.startswith("leaf_")]
    observed = {"activation": found["observed_activation"]}
    assert distance((observed, leaves), results(alone)[1:]) < 1e-9
    np.testing.assert_array_equal(found["saved"], [40, 80, 120, 160, 200, 240])
    np.testing.assert_array_equal(found["last"], leaves[0])
    assert found["v"].shape == (7, 156)
    probes = found["v"][:, np.array([0, 150])]
    np.testing.assert_allclose(probes, alone.frames["probe"], rtol=0, atol=1e-9)


# bad input


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"devices": 4}, r"asks for 4 devices, and JAX has 3 \(cpu\). .*JAX_NUM_CPU_DEVICES=4"),
        ({"devices": 0}, "asks for 0 devices"),
        ({"devices": []}, "give one or more, each of them once"),
        ({"devices": [jax.devices()[0]] * 2}, "each of them once"),
        ({"devices": 2, "partition": "simple"}, "partition method is 'simple'"),
        ({"devices": 2, "partition": np.ones(156, int)}, r"leaves 1 of 2 parts empty \(part 0"),
        ({"devices": 2, "partition": np.ones(155, int)}, r"shape \(155,\)"),
    ],
)
def test_devices_that_cannot_be(how, message):
    began = AssertionError("work began")
    with (
        mock.patch.object(Godunov, "setup", side_effect=began),
        pytest.raises(ValueError, match=message),
    ):
        solve(problem(), 2.0, scheme=Godunov(), **how)


# commands


def test_the_commands_split_the_processor():
    code = (
        "from cardiotwin import session; session.start(devices=2, cache=False);"
        "from cardiotwin.run.experiment import Solver; import jax; Solver(devices=2);"
        "print(jax.device_count())\n"
        "try: Solver(devices=3)\n"
        "except ValueError as error: print(error)"
    )
    plain = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}

    def said(**environment):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=plain | environment
        )
        return done.stdout + done.stderr

    assert said().startswith("2\nThe run asks for 3 devices, and JAX has 2 (cpu).")
    assert "asks for 2 devices, and JAX has 1 (cpu)" in said(JAX_NUM_CPU_DEVICES="1")


def test_an_experiment_on_two_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOTWIN_CACHE", "off")
    made = Experiment(
        slab((8.0, 2.0, 2.0), 1.0, pattern="bcc"),
        fibres=MeshFibres(),
        ionic=Cells("mitchell_schaeffer"),
        tissue=Myocardium(velocity=None),
        stimulus=BoxStimulus([0, 0, 0], [2, 2, 2]),
        solver=Solver(t1=10.0, dt=0.1, devices=2),
        output=Output(figures=False, film=False, report=False),
    )
    with pytest.warns(UserWarning, match="Along the"):
        summary = simulate(made, tmp_path, progress=False)
    assert summary["solver"]["devices"] == 2
    assert summary["activation"]["all"]["activated_share"] > 0.5
