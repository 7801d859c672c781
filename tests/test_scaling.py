"""The study of cost against size: its meshes, its fit and one small run."""

import numpy as np
import pytest

from benchmarks import scaling


@pytest.mark.parametrize("nodes", [500, 4_000, 64_000, 4_000_000])
def test_boxes_have_about_so_many_nodes(nodes):
    counts = np.round(np.array(scaling.box(nodes)) / scaling.DX) + 1
    assert counts.prod() == pytest.approx(nodes, rel=0.15)
    assert counts[0] > counts[1] > counts[2]


def test_slope_is_the_exponent():
    rows = [{"nodes": n, "step_s": 3e-8 * n**1.2} for n in (1e3, 2e4, 5e5)]
    assert scaling.slope(rows) == pytest.approx(1.2)


def test_a_small_run_gives_a_row(tmp_path):
    settings = {"precision": "float32", "scheme": "explicit", "multirate": "off", "threads": 1}
    row = scaling._alone(settings | {"nodes": 600, "seconds": 0.0})
    assert row["nodes"] == pytest.approx(600, rel=0.3)
    assert 0 < row["step_s"] <= row["median_step_s"] < 1
    assert 100 < row["bytes"]["program"] < 1000
    assert row["bytes"]["peak"] >= row["bytes"]["resident"] > row["bytes"]["program"]
    rows = [row, row | {"nodes": 2 * row["nodes"], "step_s": 2 * row["step_s"]}]
    entry = {"settings": settings, "rows": rows, "slope": scaling.slope(rows), "load": [0.0, 0.0]}
    assert "slope 1.00, memory" in scaling.table(entry)
    scaling.draw(entry, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
