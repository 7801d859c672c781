"""Numbers of a summary as tables for people: labels, units, normal limits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardiotwin.ecg.features import NORMAL_LIMITS

MISSING = "–"
_LONGEST_LIST = 8
_UNITS = (
    ("_mm2_per_ms", "mm²/ms"),
    ("_m_per_s", "m/s"),
    ("_per_s", "1/s"),
    ("_bpm", "bpm"),
    ("_deg", "°"),
    ("_mib", "MiB"),
    ("_ml", "mL"),
    ("_mm", "mm"),
    ("_mv", "mV"),
    ("_ms", "ms"),
    ("_s", "s"),
)
_ACRONYMS = {
    word.lower(): word
    for word in ("QRS", "QT", "ECG", "APD", "LV", "RV", "QTc", "JAX", "RR", "I", "II", "III", "R")
} | {"avr": "aVR", "avl": "aVL", "avf": "aVF", "st60": "ST60", "t": "T", "q": "Q", "s": "S"}
_MEASURED = (
    ("Heart rate", "heart_rate_bpm", "bpm"),
    ("QRS duration", "qrs_duration_ms", "ms"),
    ("QRS axis", "qrs_axis_deg", "°"),
    ("QT", "qt_ms", "ms"),
    ("QTc (Bazett)", "qtc_bazett_ms", "ms"),
    ("QTc (Fridericia)", "qtc_fridericia_ms", "ms"),
    ("T axis", "t_axis_deg", "°"),
    ("T peak to T end", "tpeak_tend_ms", "ms"),
)


class Table(NamedTuple):
    """A table with a heading.

    Attributes:
        title: heading.
        columns: names of the columns; empty for a table of names and values.
        rows: cells; the first of each row is its name.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Measured(NamedTuple):
    """One ECG measurement.

    Attributes:
        label: its name.
        value: with unit.
        normal: its normal limits, or "".
        verdict: "within", "above", "below" or "".
        reason: why it could not be measured, or "".
    """

    label: str
    value: str
    normal: str
    verdict: str
    reason: str


def measured(ecg: Mapping[str, Any] | None) -> list[Measured]:
    """Rows of the ECG measurements beside the limits of healthy adults.

    Args:
        ecg: as `cardiotwin.ecg.features.measurements` returns it.

    Returns:
        One row for each quantity that was looked for.
    """
    if not ecg:
        return []
    reasons = ecg.get("not_measured") or {}
    rows = []
    for name, key, unit in _MEASURED:
        if key not in ecg:
            continue
        value, limits = ecg[key], NORMAL_LIMITS.get(key)
        normal, verdict = "", ""
        if limits:
            normal = f"{limits[0]:g} to {with_unit(f'{limits[1]:g}', unit)}".replace("-", "−")
            if value is not None:
                outside = "below" if value < limits[0] else "above" if value > limits[1] else ""
                verdict = outside or "within"
        shown = MISSING if value is None else with_unit(f"{value:.0f}", unit).replace("-", "−")
        rows.append(Measured(name, shown, normal, verdict, str(reasons.get(key, ""))))
    return rows


def tables(title: str, value: Any) -> list[Table]:
    """A value of the summary as tables: nested mappings become rows and columns.

    Args:
        title: heading.
        value: mapping, list of mappings, or anything else.

    Returns:
        One table for the plain values, one for each group of like mappings.
    """
    if not isinstance(value, Mapping):
        if _is_records(value):
            return [_records(title, [("", row) for row in value])]
        return [Table(title, (), [("", text(value))])]
    plain = [(label(k), text(v)) for k, v in value.items() if not _is_nested(v)]
    found = [Table(title, (), plain)] if plain else []
    groups = {k: v for k, v in value.items() if isinstance(v, Mapping) and v}
    if groups and all(_is_flat(v) for v in groups.values()) and _alike(list(groups.values())):
        found.append(_records(title, [(label(k), v) for k, v in groups.items()]))
    elif groups and all(_is_grid(v) for v in groups.values()):
        nested = [(f"{label(a)}, {label(b)}", v) for a, g in groups.items() for b, v in g.items()]
        found.append(_records(title, nested))
    else:
        for key, group in groups.items():
            found += tables(f"{title}: {label(key)}", group)
    for key, rows in value.items():
        if _is_records(rows):
            found.append(_records(f"{title}: {label(key)}", [("", row) for row in rows]))
    return found


def label(key: Any) -> str:
    """A key of the summary in words, with its unit: "peak_memory_mib" -> "peak memory (MiB)"."""
    name, unit = str(key), ""
    for suffix, symbol in _UNITS:
        if name.endswith(suffix) and len(name) > len(suffix):
            name, unit = name.removesuffix(suffix), f" ({symbol})"
            break
    words = name.replace("_", " ").split(" ")
    return " ".join(_ACRONYMS.get(word.lower(), word) for word in words) + unit


def text(value: Any) -> str:
    """A value in four digits, with thousands apart; lists shortened."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        shown = f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
        return shown.replace("-", "−")
    if isinstance(value, Mapping):
        return ", ".join(f"{label(k)}: {text(v)}" for k, v in value.items()) or MISSING
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = [text(item) for item in value[:_LONGEST_LIST]]
        more = len(value) - len(shown)
        return ", ".join(shown) + (f", … ({more} more)" if more else "") if shown else MISSING
    return str(value)


def with_unit(number: str, unit: str) -> str:
    """A number and its unit, as they are printed."""
    return f"{number}{unit}" if unit == "°" else f"{number} {unit}".strip()


def _records(title: str, rows: list[tuple[str, Mapping[str, Any]]]) -> Table:
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    named = any(name for name, _ in rows)
    cells = []
    for name, row in rows:
        values = [text(row[key]) if key in row else "" for key in keys]
        cells.append(tuple([name, *values] if named else values))
    columns = tuple(label(key) for key in keys)
    return Table(title, ("", *columns) if named else columns, cells)


def _is_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_flat(v) for v in value)


def _is_flat(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(_is_nested(v) for v in value.values())


def _is_grid(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(map(_is_flat, value.values()))


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) or _is_records(value)


def _alike(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether mappings share most keys, so that they make one table."""
    every = set().union(*groups)
    return len(groups) > 1 and 2 * len(set.intersection(*map(set, groups))) >= len(every)
