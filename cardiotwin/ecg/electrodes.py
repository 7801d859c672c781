"""Electrodes: their names and positions, and the files that hold them."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import equinox as eqx
import numpy as np

from cardiotwin.units import length_exponent, to_mm

TWELVE_LEAD_ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")


class Electrodes(eqx.Module):
    """Named points in the coordinates of the heart mesh.

    Args:
        names: one distinct name an electrode. Names of the standard twelve leads (RA, LA, LL, V1
            to V6) are recognised in any case and written as the standard does.
        positions: [electrodes, 3] mm.

    Raises:
        ValueError: where names repeat, a coordinate is not finite, or the shapes disagree.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    positions: np.ndarray  # float64 [electrodes, 3], mm

    def __init__(self, names: Iterable[str], positions):
        self.names = tuple(_standard_name(name) for name in names)
        self.positions = np.array(positions, dtype=np.float64)

    def __check_init__(self):
        count = len(self.names)
        if count == 0 or self.positions.shape != (count, 3):
            raise ValueError(
                f"Electrodes: got {count} names and positions of shape {self.positions.shape}; "
                f"expected one name an electrode and positions [{max(count, 1)}, 3] in mm."
            )
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"Electrodes: the names {', '.join(repeated)} stand more than once. "
                "Give every electrode its own name."
            )
        bad = [
            name
            for name, position in zip(self.names, self.positions, strict=True)
            if not np.isfinite(position).all()
        ]
        if bad:
            raise ValueError(
                f"Electrodes: the positions of {', '.join(bad)} are not finite. "
                "Give three finite coordinates in mm for each."
            )

    def __len__(self) -> int:
        return len(self.names)

    def position(self, name: str) -> np.ndarray:
        """Return the position [3] in mm of the electrode called `name`."""
        if name not in self.names:
            raise ValueError(
                f"Electrodes: no electrode {name!r}; there are {', '.join(self.names)}."
            )
        return self.positions[self.names.index(name)]

    def require_twelve_leads(self) -> None:
        """Raise ValueError unless the nine electrodes of the standard twelve leads are here."""
        require_twelve_leads(self.names)


def require_twelve_leads(names: Iterable[str]) -> None:
    """Raise ValueError naming the electrodes that the standard twelve leads lack."""
    present = tuple(names)
    missing = [name for name in TWELVE_LEAD_ELECTRODES if name not in present]
    if missing:
        raise ValueError(
            f"The twelve leads lack the electrodes {', '.join(missing)}; got "
            f"{', '.join(present) or 'none'}. Expected {', '.join(TWELVE_LEAD_ELECTRODES)}."
        )


def read_electrodes(path: str | os.PathLike, unit: str = "mm") -> Electrodes:
    """Read electrodes from JSON ``{"V1": [x, y, z], ...}`` or CSV with rows ``name,x,y,z``.

    Args:
        path: a file ending in .json or .csv; a heading row in the CSV is optional.
        unit: of the coordinates in the file: "mm", "cm", "m" or "um".

    Returns:
        The electrodes in mm.

    Raises:
        ValueError: for an unknown ending or unit, a missing file, and for content that is not as
            described.
    """
    path = Path(path)
    length_exponent(unit)  # an unknown unit is refused before the file is opened
    readers = {".json": _read_json, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: expected electrodes in a .json or .csv file.")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; correct the path of the electrodes.")
    rows = readers[path.suffix.lower()](path)
    if not rows:
        raise ValueError(f"{path}: holds no electrodes; expected at least one name with x, y, z.")
    positions = []
    for name, values in rows:
        try:
            position = [float(value) for value in values]
        except (TypeError, ValueError):
            position = []
        if len(position) != 3:
            raise ValueError(f"{path}: {name} has {values!r}; expected three numbers x, y, z.")
        positions.append(position)
    try:
        return Electrodes([name for name, _ in rows], to_mm(positions, unit))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_electrodes(path: str | os.PathLike, electrodes: Electrodes) -> None:
    """Write electrodes in mm to a .json or .csv file that `read_electrodes` reads back exactly."""
    path = Path(path)
    pairs = [
        (name, [float(x) for x in position])
        for name, position in zip(electrodes.names, electrodes.positions, strict=True)
    ]
    if path.suffix.lower() == ".json":
        text = json.dumps(dict(pairs), indent=2) + "\n"
    elif path.suffix.lower() == ".csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["name", "x", "y", "z"])
        writer.writerows([name, *map(repr, position)] for name, position in pairs)
        text = buffer.getvalue()
    else:
        raise ValueError(f"{path}: expected a name ending in .json or .csv.")
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _standard_name(name: str) -> str:
    text = str(name).strip()
    return text.upper() if text.upper() in TWELVE_LEAD_ELECTRODES else text


def _read_json(path: Path) -> list[tuple[str, object]]:
    try:
        # pairs, not a dict: a name that stands twice must not vanish
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}).") from None
    pairs = isinstance(content, list) and all(isinstance(entry, tuple) for entry in content)
    if not pairs:
        raise ValueError(f'{path}: expected an object {{"V1": [x, y, z], ...}}.')
    return content


def _read_csv(path: Path) -> list[tuple[str, list[str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [[entry.strip() for entry in row] for row in csv.reader(file) if any(row)]
    if rows and [entry.lower() for entry in rows[0]] == ["name", "x", "y", "z"]:
        rows = rows[1:]
    return [(row[0], row[1:]) for row in rows]
