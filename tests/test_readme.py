"""The README's Python example runs, and its commands and links are real."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 20
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    activation = np.asarray(names["activation"])
    assert np.isfinite(activation).any()
    ecg = np.asarray(names["ecg"])
    assert ecg.ndim == 2
    assert ecg.shape[1] == 12
    assert np.abs(ecg).max() > 0


def commands() -> list[str]:
    """Lines of the README's shell blocks that describe runs."""
    lines = [
        line.partition("#")[0].strip() for block in blocks("bash") for line in block.split("\n")
    ]
    return [line for line in lines if line.startswith("cardiotwin simulate") and "-m" not in line]


@pytest.mark.parametrize("command", commands())
def test_commands_are_valid(command):
    from cardiotwin.config import check, load

    words = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
    check(load(words))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_both_ways_to_begin_are_there():
    assert "pip install . && cardiotwin simulate" in README
    assert 'pip install -e ".[test]" && pytest' in README
