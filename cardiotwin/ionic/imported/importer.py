"""The way in: a path becomes a model, from the cache where it was read before."""

import os
from pathlib import Path
from typing import Any

from cardiotwin.ionic.imported.build import Description, describe
from cardiotwin.ionic.imported.cache import digest_of, keep, look_up
from cardiotwin.ionic.imported.checking import check as compare
from cardiotwin.ionic.imported.model import ImportedModel, model_class
from cardiotwin.ionic.imported.reading import content_of, read
from cardiotwin.ionic.imported.source import Wishes

_classes: dict[tuple[str, str, bool], type[ImportedModel]] = {}


def read_cell_model(
    path: str | os.PathLike[str],
    *,
    potential: str | None = None,
    stimulus: str | None = None,
    scale: tuple[float, float] | None = None,
    check: bool = True,
    cache: bool = True,
    **parameters: Any,
) -> ImportedModel:
    """Read a cell model from a file and make it one of this package's.

    CellML 1.0, 1.1 and 2.0 (`.cellml`, `.xml`), Myokit (`.mmt`) and gotran (`.ode`). The stimulus
    is taken out, units become mV, ms, mM and pA/pF, gates and currents are recognised, and
    quotients that are 0/0 at some potential are rewritten; `report` of the result says what was
    found. The parameters are the constants of the file, in its units. Needs `cardiotwin[cellml]`.

    Args:
        path: the file.
        potential: qualified name of the membrane potential, where it is not clear.
        stimulus: qualified name of the stimulus current, where it is not clear.
        scale: amplitude and rest in mV of a model whose potential is normalised,
            V = rest + amplitude u; 85.7 and -84 where None.
        check: compare the rates with Myokit's, and one beat at dt 0.02 ms with SciPy's BDF
            (relative tolerance 1e-8).
        cache: look the result up by the file's content, and keep it.
        **parameters: values by the model's own names, and `start`.

    Returns:
        The model; its class is made for the file.

    Raises:
        ValueError: the file holds no cell model, one that cannot be imported, or one that fails
            the check (relative L2 error of V above 1 %, APD90 off by more than 1 ms, a rate off
            by more than 1e-6); or there is no such parameter.
        ImportError: Myokit or gotranx is not installed.
    """
    wishes = Wishes(potential, stimulus, None if scale is None else (scale[0], scale[1]))
    made = cell_model_class(path, wishes, check=check, cache=cache)
    known = [row.name for row in made.parameters()]
    for name in parameters:
        if name not in known and name != "start":
            raise ValueError(
                f"{path}: the model has no parameter {name!r}; it has {', '.join(known)}."
            )
    return made(**parameters)


def cell_model_class(
    path: str | os.PathLike[str],
    wishes: Wishes | None = None,
    *,
    check: bool = True,
    cache: bool = True,
) -> type[ImportedModel]:
    """The class of a file's model: one for each content in a process; see `read_cell_model`."""
    path = Path(path).expanduser()
    wishes = Wishes() if wishes is None else wishes
    content = content_of(path)
    digest = digest_of(content, path.suffix.lower(), wishes)
    for checked in (True, check):
        key = (digest, str(path), checked)
        if cache and key in _classes:
            return _classes[key]
    found = look_up(digest) if cache else None
    if found is None or (check and not found.check):
        found = _imported(path, content, wishes, digest, check=check)
        if cache:
            keep(digest, found)
    made = model_class(found, str(path), digest)
    _classes[digest, str(path), bool(found.check)] = made
    return made


def describe_cell_model(path: str | os.PathLike[str], **options: Any) -> str:
    """A readable account of a file's model: what was found, and the table of its parameters.

    Args:
        path: the file.
        **options: of `read_cell_model`.
    """
    cell = read_cell_model(path, **options)
    rows = [(x.name, f"{x.default:g}", x.unit or "1", x.meaning) for x in cell.parameters()]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    table = "\n".join(
        "  ".join((*(text.ljust(w) for text, w in zip(row, widths, strict=False)), row[3]))
        for row in rows
    )
    return f"{cell.report}\n\nparameters\n{table}" if rows else str(cell.report)


def _imported(
    path: Path, content: bytes, wishes: Wishes, digest: str, *, check: bool
) -> Description:
    source, notes = read(path, content)
    try:
        found = describe(source, wishes, notes)
        if check:
            made: Any = model_class(found, str(path), digest)
            figures = compare(made(), source)
            found = found._replace(check=figures)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found
