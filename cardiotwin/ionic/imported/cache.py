"""Descriptions kept between runs, by the content of the file that they were made of."""

import hashlib
import json
import os
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cardiotwin._version import __version__
from cardiotwin.ionic.imported.build import Description, Remainder
from cardiotwin.ionic.imported.nodes import from_rows, to_rows
from cardiotwin.ionic.imported.source import Variable, Wishes
from cardiotwin.session import results_folder


def digest_of(content: bytes, suffix: str, wishes: Wishes) -> str:
    """Hash of all that decides a description: file, wishes and the importer itself."""
    digest = hashlib.sha256(f"{__version__} {_code()} {suffix} {wishes}".encode())
    digest.update(content)
    return digest.hexdigest()[:32]


@cache
def _code() -> str:
    """Hash of the importer's sources, and of what steps a model in its check."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (*sorted(here.glob("*.py")), *sorted(here.parent.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def look_up(digest: str) -> Description | None:
    """The description kept under a hash, or None; a file that cannot be understood is ignored."""
    path = _path(digest)
    if path is None or not path.is_file():
        return None
    try:
        return _unpacked(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        warnings.warn(
            f"{path}: this file of the cache cannot be understood ({error}); it is left aside and "
            "the model is imported anew",
            stacklevel=3,
        )
        return None


def keep(digest: str, description: Description) -> None:
    """Write a description whole or not at all; a cache that cannot be written costs only time."""
    path = _path(digest)
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
        ) as file:
            json.dump(_packed(description), file)
        os.replace(file.name, path)


def _path(digest: str) -> Path | None:
    folder = results_folder()
    return None if folder is None else folder / "cells" / f"{digest}.json"


def _packed(description: Description) -> dict[str, Any]:
    return {**description._asdict(), "formulas": to_rows(description.formulas)}


def _unpacked(kept: dict[str, Any]) -> Description:
    lists = ("potential", "gates", "linearised", "slow", "stimulus")
    values = {**kept, **{key: tuple(kept[key]) for key in lists}}
    values["formulas"] = from_rows(kept["formulas"])
    values["remainders"] = tuple(
        Remainder(state, total, tuple(others)) for state, total, others in kept["remainders"]
    )
    for key in ("states", "parameters"):
        values[key] = tuple(Variable(*row) for row in kept[key])
    found = Description(**values)
    needed = {"V", *(f"rate {x.name}" for x in found.states)}
    if not needed <= found.formulas.keys() or not isinstance(found.report, dict):
        raise ValueError("formulas are missing")
    return found
