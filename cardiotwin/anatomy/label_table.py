"""What the numbers of an image of labels mean: tables from part to label."""

import difflib
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from cardiotwin._resources import label_tables


class Part(IntEnum):
    """Parts of a heart, with the number each has in our own images of labels.

    `MYOCARDIUM` is the wall of both ventricles where they are not told apart; `REMOVED` is what
    was cut off above the plane of the base.
    """

    OUTSIDE = 0
    LV_WALL = 1
    RV_WALL = 2
    SEPTUM = 3
    LV_CAVITY = 4
    RV_CAVITY = 5
    LA = 6
    RA = 7
    AORTA = 8
    PULMONARY_ARTERY = 9
    SCAR = 10
    BORDER_ZONE = 11
    MYOCARDIUM = 12
    REMOVED = 13


WALLS = (
    Part.LV_WALL,
    Part.RV_WALL,
    Part.SEPTUM,
    Part.SCAR,
    Part.BORDER_ZONE,
    Part.MYOCARDIUM,
)
TISSUE = (Part.LV_WALL, Part.RV_WALL, Part.SEPTUM)  # of a heart that is complete
CAVITIES = (Part.LV_CAVITY, Part.RV_CAVITY)
VESSELS = (Part.LA, Part.RA, Part.AORTA, Part.PULMONARY_ARTERY, Part.REMOVED)
STANDARD_TABLE: dict[str, tuple[int, ...]] = {part.name.lower(): (part.value,) for part in Part}
_IGNORED = "outside"


def read_label_table(table: str | Path | Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Which labels of an image belong to which part.

    Args:
        table: a YAML file of lines ``name: label`` or ``name: [label, label]``, or the mapping
            itself. Names are those of `Part` in lower case; ``outside`` takes labels that count
            as no part of the heart.

    Returns:
        Labels by name.

    Raises:
        ValueError: there is no such file, it is no mapping, a name is unknown, a label is no
            whole number or belongs to two names, or no wall has a label.
    """
    where, content = "the label table", table
    if isinstance(table, (str, Path)):
        where, content = f"the label table {table}", _from_yaml(Path(table))
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{where} has no entries: write lines such as lv_wall: 1")
    found: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for name, given in content.items():
        if name not in STANDARD_TABLE:
            near = difflib.get_close_matches(str(name), STANDARD_TABLE, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{where} names {name!r}; expected one of {', '.join(STANDARD_TABLE)}{hint}"
            )
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{where}: {name}: {value!r} is no whole number")
            if value in owner:
                raise ValueError(
                    f"{where}: label {value} is both {owner[value]} and {name}: name it once"
                )
            owner[value] = str(name)
        found[str(name)] = tuple(values)
    if not any(part.name.lower() in found for part in WALLS):
        raise ValueError(
            f"{where} has no label of muscle: name one of "
            f"{', '.join(part.name.lower() for part in WALLS)}"
        )
    return found


def as_parts(
    labels: Int[np.ndarray, "x y z"], table: Mapping[str, tuple[int, ...]]
) -> UInt8[np.ndarray, "x y z"]:
    """Numbers of an image turned into those of `Part`.

    Raises:
        ValueError: the image is empty, holds a label that is not in the table, or none of muscle.
    """
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if high - low > 1_000_000:
        raise ValueError(f"labels run from {low} to {high}: number them anew")
    count = np.bincount((labels - low).ravel(), minlength=1)
    present = {int(k) + low: int(count[k]) for k in np.flatnonzero(count)}
    foreground = {k: n for k, n in present.items() if k != 0}
    if not foreground:
        raise ValueError("the image is empty: all its voxels are 0, expected labels of a heart")
    known = {label: Part[name.upper()] for name, many in table.items() for label in many}
    unknown = {k: n for k, n in foreground.items() if k not in known}
    if unknown:
        shown = ", ".join(f"{k} ({n} voxels)" for k, n in list(unknown.items())[:12])
        named = ", ".join(f"{name} {list(many)}" for name, many in table.items() if many != (0,))
        raise ValueError(
            f"the image has labels that the table does not name: {shown}; the table has {named}. "
            "Choose another table (--labels), or name them in one of your own; "
            f"'{_IGNORED}: [...]' leaves labels out"
        )
    translate = np.zeros(high - low + 1, np.uint8)
    for label, part in known.items():
        if low <= label <= high:
            translate[label - low] = part
    parts = translate[labels - low]
    if not any(known.get(label) in WALLS for label in present):
        raise ValueError(
            f"no voxel is muscle: the image has the labels {sorted(foreground)}, the table's walls "
            f"are {[k for k, part in known.items() if part in WALLS]}; choose another table"
        )
    return parts


def choose_table(
    labels: Int[np.ndarray, "x y z"], tables: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> str:
    """The name of the one table that has exactly the labels of an image.

    Args:
        labels: the image.
        tables: by name, each as `read_label_table` returns it.

    Raises:
        ValueError: no table fits, or several do; the message says which could be chosen.
    """
    present = set(np.unique(labels).tolist()) - {0}
    numbers = {k: {n for many in table.values() for n in many} - {0} for k, table in tables.items()}
    exact = [name for name, named in numbers.items() if named == present]
    if len(exact) == 1:
        return exact[0]
    wider = [name for name, named in numbers.items() if present < named]
    offer = f"; {' or '.join(exact or wider)} would name them all" if exact or wider else ""
    raise ValueError(
        f"what do the labels {sorted(present)[:20]} mean? No table has exactly these{offer}. "
        f"Choose one with --labels: {', '.join(tables)}, or a YAML file of lines such as lv_wall: 1"
    )


def table_for(
    labels: Int[np.ndarray, "x y z"], wanted: str | Path | None = None
) -> dict[str, tuple[int, ...]]:
    """The label table of an image.

    Args:
        labels: the image.
        wanted: name of an installed table or a YAML file; the installed one that has exactly the
            image's labels when left out.

    Raises:
        ValueError: there is no such table, or none or several fit.
    """
    if wanted is not None:
        return read_label_table(table_path(wanted))
    known = {name: read_label_table(path) for name, path in label_tables().items()}
    return known[choose_table(labels, known)]


def table_path(wanted: str | Path) -> Path:
    """The file of a label table, by the name of an installed one or by its path.

    Raises:
        ValueError: there is no such table.
    """
    tables = label_tables()
    if str(wanted) in tables:
        return tables[str(wanted)]
    if not Path(wanted).is_file():
        raise ValueError(
            f"the label table {str(wanted)!r} is neither a file nor one of {', '.join(tables)}"
        )
    return Path(wanted)


def _from_yaml(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise ValueError(f"there is no label table {path}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
