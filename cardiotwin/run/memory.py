"""Results that cost seconds and never change, kept between runs beside the compiled programs."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cardiotwin._version import __version__
from cardiotwin.results.tables import write_json
from cardiotwin.session import results_folder

PACKAGE = Path(__file__).parent.parent


def remembered(kind: str, key: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Look a result up by all that decides it, or compute and keep it.

    Args:
        kind: folder of the cache.
        key: PyTree of arrays and of objects whose `repr` tells them apart.
        compute: gives the result, a mapping that JSON can hold (arrays become lists).

    Returns:
        The result, with lists in place of arrays where it was looked up.
    """
    folder = results_folder()
    if folder is None:
        return compute()
    path = folder / kind / f"{_digest(key)}.json"
    # a cache that cannot be read or written costs time, not the run
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    result = compute()
    with suppress(OSError):
        write_json(path, result)
    return result


def _digest(key: Any) -> str:
    leaves, structure = jax.tree.flatten(key)
    digest = hashlib.sha256(f"{__version__} {_code()} {structure}".encode())
    for leaf in leaves:
        if isinstance(leaf, np.ndarray | jax.Array):
            array = np.ascontiguousarray(leaf)
            digest.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
        else:
            digest.update(repr(leaf).encode())
    return digest.hexdigest()[:24]


@cache
def _code() -> str:
    """Hash of the solver's sources: a changed solver forgets what the old one measured."""
    digest = hashlib.sha256()
    for folder in ("ionic", "numerics", "propagation"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
