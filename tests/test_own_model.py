"""The example of docs/models/own.md does what the page says."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import biomarkers, record
from cardiotwin.ionic.drugs import Drug, PoreBlock, with_drug

PAGE = Path(__file__).parents[1] / "docs" / "models" / "own.md"


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def noble(blocks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "noble_1962.py").write_text(blocks[0], encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        import noble_1962

        yield noble_1962.Noble1962
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("noble_1962", None)


def test_the_example_is_about_forty_lines(blocks):
    code = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(code) <= 45


def test_the_use_of_the_example_runs(noble, blocks, capsys):
    exec(compile(blocks[1], str(PAGE), "exec"), {})
    low, high = map(int, re.findall(r"-?\d+", capsys.readouterr().out))
    assert -100 < low < -70
    assert 10 < high < 45


def test_it_beats_by_itself_with_the_published_duration(noble):
    found = record(noble(), cycle_length=2000.0, amplitude=0.0, dt=0.05, every=0.5)
    rises = np.flatnonzero((found.v[1:] > -20) & (found.v[:-1] <= -20))
    assert len(rises) >= 2
    # the paper's figure 6: an action potential of 300 to 400 ms
    falls = np.flatnonzero((found.v[1:] <= -70) & (found.v[:-1] > -70))
    duration = found.t[falls[falls > rises[0]][0]] - found.t[rises[0]]
    assert 250 < duration < 450


def test_its_gates_are_gates_and_its_singular_points_smooth(noble):
    cell = noble().astype(float)
    y = cell.State(*jnp.array([0.3, 0.6, 0.4]))

    def rates(gates, v):
        return jnp.stack(cell(v, cell.State(*gates))[1])

    for v in (-70.0, -50.0, -48.0, -8.0, 20.0):
        jacobian = jax.jacfwd(rates)(jnp.stack(y), v)
        np.testing.assert_allclose(jacobian, np.diag(np.diag(jacobian)), atol=1e-14)
        assert jnp.isfinite(jax.jacfwd(rates, argnums=1)(jnp.stack(y), v)).all()
        near = rates(jnp.stack(y), v + 1e-6)
        np.testing.assert_allclose(rates(jnp.stack(y), v), near, rtol=1e-5)


def test_it_runs_in_tissue_and_takes_drugs(noble):
    import cardiotwin as ct

    mesh = slab((6.0, 1.0, 1.0), 0.5)
    tissue = ct.Tissue.by_region(mesh, ct.fibres_from_mesh(mesh), ct.Conductivity())
    problem = ct.Monodomain(mesh, tissue, noble(), ct.BoxStimulus())
    solution = ct.solve(problem, 20.0, observe={"activation": ct.ActivationTime()})
    assert np.isfinite(solution.observed["activation"]).mean() > 0.5
    blocked = with_drug(noble(), Drug("x", 1.0, {"I_Na": PoreBlock(1.0)}))
    slow, fast = (
        biomarkers(record(cell, cycle_length=500.0, dt=0.05))["upstroke"]
        for cell in (blocked, noble())
    )
    assert slow < 0.8 * fast
