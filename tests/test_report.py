import dataclasses
import io
import math
import re
import sys
import time
from html.parser import HTMLParser

import chromium
import numpy as np
import pytest
from cup import LEADS, activation, cup, synthetic_ecg, voltage

from cardiotwin.ecg.features import measurements
from cardiotwin.results import View, action_potentials, activation_map, ecg_paper, film
from cardiotwin.results._report_map import map_json
from cardiotwin.results._report_tables import label, measured, tables, text
from cardiotwin.results.report import write_report

FRONT = View("anterior", (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), left="RV", right="LV")
SCRIPT = "<script>document.title = 'taken over'</script>"


@dataclasses.dataclass
class Run:
    """What a run hands to its report."""

    summary: dict
    figures: dict
    film: object
    mesh: object
    times: np.ndarray


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    mesh = cup(48, 30, 2)
    times = activation(mesh)
    t, ecg = synthetic_ecg(np.arange(0.0, 451.0))
    probes = np.stack([voltage(times, x)[[5, 900]] for x in t])
    summary = {
        "name": "sinus beat " + SCRIPT,
        "status": "running",
        "environment": {"cardiotwin": "0.1", "commit": None, "device": "TFRT_CPU_0"},
        "ecg": measurements(t, 0.4 * ecg, LEADS, rr_ms=1500.0),
        "mesh": {"nodes": len(mesh.points), "regions_ml": {"lv": 120.0, "rv": 61.5}},
        "activation": {
            "all": {"first_ms": 0.0, "last_ms": 120.4},
            "lv": {"first_ms": 1.0, "last_ms": 99.0},
        },
        "measured_velocity_m_per_s": {
            "myocardium": {"fibre": {"median": 0.61}, "cross": {"median": 0.3}}
        },
        "velocity": {"edge_length_mm": 1.5, "layers": [{"layer": "all", "target_m_per_s": 0.6}]},
        "lead_field": "unbounded " + SCRIPT,
        "odd": {"value": math.nan, "inner": {"a": 1, "b": {"c": 2}}},
        "timings_s": {"solve": 73.6},
        "warnings": ["The velocity is 7 % off.", SCRIPT + " & more"],
    }
    figures = {
        "ecg": ecg_paper(folder / "ecg.png", t, ecg, LEADS),
        "activation": activation_map(folder / "map.png", mesh, times, views=(FRONT,)),
        "action_potentials": action_potentials(folder / "ap.svg", t, probes, ["apex", "base"]),
    }
    frames = ((x, voltage(times, x)) for x in np.linspace(0, 120, 8))
    made = film(folder / "beat.mp4", mesh, frames, views=(FRONT,))
    return Run(summary, figures, made, mesh, times)


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    return write_report(
        tmp_path_factory.mktemp("report"),
        run.summary,
        figures=run.figures,
        film=run.film,
        mesh=run.mesh,
        activation_time=run.times,
        views=(FRONT,),
        config_text="mesh:\n  edge_length: 1.5 # " + SCRIPT,
    )


class Outline(HTMLParser):
    """Texts, tags and addresses of a page."""

    def __init__(self, html):
        super().__init__()
        self.words, self.addresses, self.tags, self._inside = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data") and v]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.words.append(data.strip())


def test_report_is_one_file_that_asks_for_nothing(report):
    html = report.read_text(encoding="utf-8")
    page = Outline(html)
    assert all(address.startswith("data:") for address in page.addresses)
    assert "default-src 'none'" in html
    assert page.tags.count("script") == 3  # plotly, its data, its call
    assert page.tags.count("video") == 1
    assert [a[:20] for a in page.addresses if "image/" in a] == [
        "data:image/png;base64"[:20],
        "data:image/png;base64"[:20],
        "data:image/svg+xml;base64"[:20],
    ]


def test_report_shows_warnings_first_and_every_number(report):
    page = Outline(report.read_text(encoding="utf-8"))
    words = [w for w in page.words if w]
    everything = " ".join(words)
    assert words.index("The velocity is 7 % off.") < words.index("Electrocardiogram")
    for expected in (
        *("2 warnings", "120 ms", "61.5", "0.61", "edge length (mm)", "target (m/s)", "73.6"),
        *("edge_length: 1.5", "TFRT_CPU_0", "Research software, not a medical device."),
        *("Mason et al. 2007", "In three dimensions", "c", "–"),
    ):
        assert expected in everything, expected


def test_report_escapes_what_the_summary_says(report):
    html = report.read_text(encoding="utf-8")
    assert SCRIPT not in html
    assert html.count("&lt;script&gt;document.title") >= 4


def test_measurements_outside_the_normal_limits_are_marked(run):
    rows = {row.label: row for row in measured(run.summary["ecg"])}
    assert rows["Heart rate"].verdict == "below"
    assert rows["Heart rate"].normal == "48 to 98 bpm"
    assert rows["QRS duration"].verdict == "within"
    assert rows["QRS axis"].normal == "−40 to 91°"
    assert rows["T axis"].verdict == ""
    missing = measured({"qt_ms": None, "not_measured": {"qt_ms": "the record ends"}})[0]
    assert (missing.value, missing.verdict, missing.reason) == ("–", "", "the record ends")
    assert measured(None) == []


def test_tables_of_nested_values():
    found = tables("Mesh", {"nodes": 5, "regions_ml": {"lv": 1.0, "rv": 2.0}})
    assert [t.title for t in found] == ["Mesh", "Mesh: regions (mL)"]
    grid = tables("x", {"lv": {"first_ms": 1.0, "n": 3}, "rv": {"first_ms": 2.0, "n": 4}})[0]
    assert grid.columns == ("", "first (ms)", "n")
    assert grid.rows == [("LV", "1", "3"), ("RV", "2", "4")]
    deep = tables("v", {"wall": {"fibre": {"m": 1.0}, "cross": {"m": 2.0}}})[0]
    assert [row[0] for row in deep.rows] == ["wall, fibre", "wall, cross"]
    rows = tables("r", [{"a": 1, "b": "x"}, {"a": 2}])[0]
    assert rows.rows == [("1", "x"), ("2", "")]
    assert tables("empty", {}) == []


def test_words_and_numbers_for_people():
    assert label("peak_memory_mib") == "peak memory (MiB)"
    assert label("qrs_duration_ms") == "QRS duration (ms)"
    assert label("node_steps_per_s") == "node steps (1/s)"
    assert text(1234567.8) == "1,234,568"
    assert text(-0.000123456) == "−0.0001235"
    assert text(52210) == "52,210"
    assert text([1, 2, 3] * 10).endswith("… (22 more)")
    assert text(None) == "–"
    assert text(True) == "yes"


def test_report_of_a_failed_run_with_nothing_else(tmp_path):
    path = write_report(
        tmp_path, {"name": "x", "status": "failed", "error": "NonFiniteError: at 12 ms"}
    )
    page = Outline(path.read_text(encoding="utf-8"))
    assert "The run did not finish." in page.words
    assert any("NonFiniteError: at 12 ms" in words for words in page.words)
    assert "script" not in page.tags


def test_report_without_plotly_says_so_and_keeps_the_rest(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    path = write_report(
        tmp_path,
        {"mesh": {"nodes": 52210}},
        figures=run.figures,
        mesh=run.mesh,
        activation_time=run.times,
        views=(FRONT,),
    )
    page = Outline(path.read_text(encoding="utf-8"))
    assert "The rotatable map could not be made." in page.words
    assert any("plotly" in words and "Error" in words for words in page.words)
    assert "script" not in page.tags
    assert "52,210" in page.words
    assert page.tags.count("img") == 3


def test_report_refuses_what_it_cannot_show(tmp_path, run):
    with pytest.raises(ValueError, match=r"expected \.png"):
        write_report(tmp_path, {}, figures={"ecg": tmp_path / "ecg.tiff"})
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path, {}, figures={"ecg": tmp_path / "ecg.png"})
    with pytest.raises(ValueError, match="activation times have shape"):
        write_report(tmp_path, {}, mesh=run.mesh, activation_time=run.times[1:])
    assert list(tmp_path.iterdir()) == []


def test_map_is_merged_where_it_is_too_fine(run):
    import json

    figure, drawn, whole = map_json(run.mesh, run.times, (FRONT,), largest=2000)
    assert drawn <= 2000 < whole
    kinds = [trace["type"] for trace in json.loads(figure)["data"]]
    assert kinds == ["mesh3d", "mesh3d", "scatter3d", "scatter3d"]
    never = map_json(run.mesh, np.full(len(run.times), np.nan), (FRONT,))[0]
    assert [t["type"] for t in json.loads(never)["data"]].count("mesh3d") == 1


def picture(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png))[..., :3]


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
def test_report_in_a_browser(report, tmp_path):
    with chromium.Page(chromium.find(), tmp_path / "profile", 1100, 800) as page:
        page.open(report.as_uri())
        deadline = time.monotonic() + 30
        while not page.run("!!document.querySelector('#map canvas')"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert page.run("document.title").startswith("sinus beat <script>")
        assert page.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.run("document.body.scrollWidth <= innerWidth")
        assert page.run(
            "new Promise(done => { const v = document.querySelector('video');"
            "const ready = () => v.readyState >= 2 ? done(v.duration > 0.4)"
            " : setTimeout(ready, 50); ready(); })"
        )
        page.run("document.getElementById('map').scrollIntoView({block: 'center'})")
        x, y, width, height = page.run(
            "(() => { const r = document.getElementById('map').getBoundingClientRect();"
            "return [r.x, r.y, r.width, r.height]; })()"
        )
        middle = (x + width / 2, y + height / 2)
        spoken, deadline = "", time.monotonic() + 20
        while not re.match(r"\d+\.\d ms", spoken):  # scan along the lower half of the heart
            assert time.monotonic() < deadline, "pointing at the surface shows no time"
            page.move((middle[0] - 100 + (time.monotonic() * 40) % 200, middle[1] + 110))
            time.sleep(0.2)
            spoken = page.run(
                "[...document.querySelectorAll('#map svg text')].map(t => t.textContent)"
                ".find(t => / ms$/.test(t)) || ''"
            )
        page.move((middle[0], y - 30))
        time.sleep(0.5)
        before = picture(page.screenshot())
        page.drag(middle, (middle[0] + 170, middle[1] - 40))
        time.sleep(1.0)
        after = picture(page.screenshot())
        map_only = np.s_[int(y) + 40 : int(y + height) - 10, int(x) + 10 : int(x + width) - 130]
        assert (np.ptp(before[map_only], axis=2) > 0.2).mean() > 0.1  # a coloured heart
        assert (np.abs(after[map_only] - before[map_only]).max(axis=2) > 0.1).mean() > 0.05
        assert page.errors == []
        outside = [u for u in page.requests if not u.startswith(("data:", "blob:"))]
        assert outside == [report.as_uri()]
