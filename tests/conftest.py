"""Strict numerics for every test, the place of the real data, and tables of what was measured."""

import gc
import os
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 3)  # for runs that are spread over devices

MOST_MAPS = 25_000
ROW = "row of a table"
CELL = "cell of the table of verified models"
VERIFIED = Path(__file__).parents[1] / "docs" / "models" / "verification.md"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, or a skip where CARDIOTWIN_DATA is unset."""
    folder = os.environ.get("CARDIOTWIN_DATA")
    if not folder:
        pytest.skip("CARDIOTWIN_DATA is unset")
    return Path(folder).resolve()


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Forget compiled programs before there are too many for one process.

    Each holds memory maps of its own, of which Linux allows 65,530; XLA aborts beyond them.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        eqx.clear_caches()
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def tabulate(record_property):
    """Add a row to a table that is printed when all tests are done: tabulate(title, **columns)."""

    def add(title: str, **columns) -> None:
        # reports travel between processes: plain Python numbers only
        record_property(ROW, [title, {k: _plain(v) for k, v in columns.items()}])

    return add


def _plain(value):
    """A number as it is; a list of numbers as text."""
    if np.ndim(value) == 0:
        return value.item() if hasattr(value, "item") else value
    return " ".join(f"{x:.3g}" for x in np.ravel(value))


@pytest.fixture
def measured(record_property):
    """Note a figure for docs/models/verification.md: measured(case, column, text)."""
    return lambda case, column, text: record_property(CELL, [case, column, text])


def pytest_addoption(parser):
    parser.addoption("--tables", metavar="FILE", help="write the measured tables to a file as well")
    parser.addoption(
        "--write-tables", action="store_true", help="bring docs/models/verification.md up to date"
    )


def pytest_terminal_summary(terminalreporter, config):
    tables = collect(terminalreporter.stats)
    text = "\n\n".join(f"{title}\n\n{markdown(rows)}" for title, rows in tables.items())
    if text:
        terminalreporter.section("measured")
        terminalreporter.write_line(text)
    if config.getoption("--tables"):
        Path(config.getoption("--tables")).write_text(text + "\n", encoding="utf-8")
    if config.getoption("--write-tables"):
        write_verified(VERIFIED, verified(terminalreporter.stats))


def verified(stats) -> dict[str, dict[str, str]]:
    """Figures by case and column, of the tests that passed."""
    found: dict[str, dict[str, str]] = {}
    for report in stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == CELL:
                case, column, text = value
                found.setdefault(case, {})[column] = text
    return found


def write_verified(page: Path, found: dict[str, dict[str, str]]) -> None:
    """Put figures into the page's table; rows and columns that did not run stay as they are."""
    before, table, after = [], [], []
    for line in page.read_text(encoding="utf-8").splitlines():
        (table if line.startswith("|") else after if table else before).append(line)
    names, _, *rows = [[x.strip() for x in line.strip("|").split("|")] for line in table]
    known = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
    for case, figures in found.items():
        assert figures.keys() <= set(names), sorted(figures)
        known.setdefault(case, {names[0]: case}).update(figures)
    blank = dict.fromkeys(names, "")
    lines = markdown([blank | known[case] for case in sorted(known, key=str.casefold)])
    page.write_text("\n".join([*before, lines, *after]) + "\n", encoding="utf-8")


def collect(stats) -> dict[str, list[dict]]:
    """Rows by title, from the reports of all tests in the order of their files and lines."""
    reports = [r for group in stats.values() for r in group if getattr(r, "when", "") == "call"]
    tables: dict[str, list[dict]] = {}
    for report in sorted(reports, key=lambda r: r.location[:2]):
        for name, value in report.user_properties:
            if name == ROW:
                tables.setdefault(value[0], []).append(value[1])
    return dict(sorted(tables.items()))


def markdown(rows: list[dict]) -> str:
    """A table in Markdown; a column is as wide as its widest entry."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names] + [[_text(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(names))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
