"""What the doctor finds, and what it makes of it."""

import importlib.metadata
import json
import re

import pytest

from cardiotwin import doctor, session
from cardiotwin.cli import main
from cardiotwin.doctor import Finding, examine, format_findings, works


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache folder of the test's own."""
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(tmp_path))
    return tmp_path


def test_report_covers_the_machine(cache):
    findings = {finding.name: finding for finding in examine()}
    for name in ("devices", "float64", "compilation cache", "memory", "cores", "ffmpeg"):
        assert findings[name].status != "failed", findings[name]
    assert "renderer" in findings
    assert "CARDIOTWIN_DATA" in findings
    assert "jax " in findings["packages"].text
    assert "configs" in findings["configs and meshes"].text


def test_command_prints_text_or_json(cache, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("one", "ok", "fine")])
    assert main(["doctor"]) == 0
    assert "everything works" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("one", "failed", "broken")])
    assert main(["doctor", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"name": "one", "status": "failed", "text": "broken"}


def test_verdict_counts():
    rows = [Finding("a", "warning", "x"), Finding("bb", "failed", "y"), Finding("c", "ok", "z")]
    text = format_findings(rows)
    assert "FAIL  bb  y" in text
    assert text.endswith("1 failed, 1 warnings")
    assert not works(rows)
    assert works(rows[:1])


def test_bad_releases_of_jax_fail(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    (finding,) = doctor._jax_release()
    assert finding.status == "failed"
    assert "39103" in finding.text


def test_bad_releases_are_those_the_package_excludes():
    wanted = importlib.metadata.requires("cardiotwin") or []
    (jax,) = (line for line in wanted if re.match(r"jax[^a-z\[]", line) and "extra" not in line)
    assert all(f"!={version}" in jax for version in doctor.BAD_JAX)


def test_missing_package_fails(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert any(finding.status == "failed" for finding in doctor._packages())


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "_devices", broken)
    assert Finding("broken", "failed", "RuntimeError: no driver") in examine()


def test_cache_is_sized_or_off(cache, monkeypatch):
    folder = session.cache_folder()
    assert folder is not None
    folder.mkdir()
    (folder / "program").write_bytes(b"0" * 2**20)
    (finding,) = doctor._cache()
    assert "1 files, 1.0 MiB" in finding.text
    monkeypatch.setenv("CARDIOTWIN_CACHE", "off")
    (finding,) = doctor._cache()
    assert finding.text.startswith("off")
    (cache / "file").touch()
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(cache / "file"))
    (finding,) = doctor._cache()
    assert finding.status == "warning"


def test_data_folder_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setenv("CARDIOTWIN_DATA", str(tmp_path / "absent"))
    (finding,) = doctor._data()
    assert finding.status == "warning"
    (tmp_path / "heart").mkdir()
    monkeypatch.setenv("CARDIOTWIN_DATA", str(tmp_path))
    (finding,) = doctor._data()
    assert "heart" in finding.text
