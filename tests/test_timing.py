"""Where the time of a run goes."""

import jax
import pytest
from tissues import SmoothStimulus, uniform_tissue

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer
from cardiotwin.propagation import solve as solve_module
from cardiotwin.propagation import timing, windows
from cardiotwin.propagation.corrected import CorrectedDiffusion
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion
from cardiotwin.propagation.solve import solve

MESH = slab((6.0, 3.0, 3.0), 0.5)


def run(diffusion=None, **options):
    problem = Monodomain(
        MESH, uniform_tissue(MESH, (0.2, 0.05, 0.05)), MitchellSchaeffer(), SmoothStimulus(width=1)
    )
    return solve(
        problem,
        4.0,
        scheme=Godunov(diffusion or ExplicitDiffusion()),
        observe={"activation": ActivationTime()},
        **options,
    )


@pytest.mark.parametrize("streams", [False, True])
def test_parts_make_up_the_loop(streams):
    stats = run(on_frame=(lambda _: None) if streams else None, profile=True).stats
    parts = [stats[name] for name in ("ionic_s", "diffusion_s", "observables_s")]
    assert min(parts) >= 0
    assert stats["diffusion_s"] > 0
    assert sum(parts) == pytest.approx(stats["loop_s"] - stats.get("callback_s", 0.0))
    if streams:
        # state, observed time and matrices of every node; the least a run can hold
        assert stats["device_memory_mib"] * 2**20 > 4 * 20 * len(MESH.points)
    assert "ionic_s" not in run().stats


@pytest.mark.parametrize(
    ("diffusion", "expected"),
    [
        # 80 steps, a quarter of the nodes in them and all in 20 longer ones
        (CorrectedDiffusion(), 80 * 0.25 * 1e-3 + 20 * 1e-3),
        (ExplicitDiffusion(), 80 * 0.25 * 1e-3 + 20 * 1e-3),
        # an implicit step diffuses on all nodes
        (ImplicitDiffusion(), 80 * 1e-3),
    ],
    ids=["corrected", "explicit", "implicit"],
)
def test_divided_nodes_count_by_their_share(monkeypatch, diffusion, expected):
    monkeypatch.setattr(timing, "_time", lambda *_: 1e-3)
    monkeypatch.setattr(windows, "FEWEST_NODES", 100)
    seen = {}
    real = timing.time_of_parts

    def note(prepared, longer, observe, v, observed, taken, loop_s):
        taken = taken._replace(busy=0.25, quiet=0, short=80)
        seen.update(real(prepared, longer, {}, v, {}, taken, 100.0))
        return seen

    monkeypatch.setattr(solve_module, "time_of_parts", note)
    run(diffusion, quiet_dt=0.2, multirate=True, profile=True)
    assert seen["diffusion_s"] == pytest.approx(expected)
    assert seen["ionic_s"] == pytest.approx(100.0 - expected)


def test_nothing_is_timed_while_traced():
    out = jax.jit(lambda _: run(profile=True).observed["activation"])(1.0)
    assert out.shape == (len(MESH.points),)
