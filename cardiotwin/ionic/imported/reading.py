"""From a file to a `myokit.Model`, whatever the format; what is no model is refused here."""

import importlib
import logging
import math
import warnings
from pathlib import Path
from typing import Any

from cardiotwin.units import base_units

SUFFIXES = {
    ".cellml": "CellML 1.0, 1.1 or 2.0",
    ".xml": "CellML 1.0, 1.1 or 2.0",
    ".mmt": "Myokit",
    ".ode": "gotran",
}
EXTRA = "pip install 'cardiotwin[cellml]'"


def is_cell_file(text: str) -> bool:
    """Whether a model's name is the path of a file that holds one."""
    return Path(text).suffix.lower() in SUFFIXES


def content_of(path: Path) -> bytes:
    """The bytes of a model's file.

    Raises:
        ValueError: no such file, an unknown suffix, or nothing in it.
    """
    known = ", ".join(f"{suffix} ({what})" for suffix, what in SUFFIXES.items())
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path}: the suffix {path.suffix!r} is none of a cell model; expected {known}. "
            "Convert the model, or rename the file if it is one of these."
        )
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give the path of one with {known}.")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path}: the file is empty; expected {SUFFIXES[path.suffix.lower()]}.")
    return content


def read(path: Path, content: bytes) -> tuple[Any, list[str]]:
    """Read a file into Myokit's representation.

    Args:
        path: the file; its suffix says what it is.
        content: its bytes.

    Returns:
        A valid `myokit.Model`, and what had to be assumed.

    Raises:
        ImportError: Myokit or gotranx is not installed.
        ValueError: the file holds no model, or one with elements that cannot be imported.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".mmt":
            return _from_mmt(path, content), []
        if kind == ".ode":
            return _from_ode(path, content)
        return _from_cellml(path, content), []
    except (ImportError, ValueError):
        raise
    except Exception as error:  # the readers raise many kinds, gotranx its parser's too
        raise ValueError(_explained(path, error)) from error


def needed(module: str, path: Path) -> Any:
    """Import a library that only the import of models needs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{path}: reading it needs {module.split('.')[0]}, which is not installed ({error}). "
            f"Install the extra: {EXTRA}"
        ) from error


def _from_cellml(path: Path, content: bytes) -> Any:
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start != b"<":
        raise ValueError(
            f"{path}: this is not XML; expected CellML, which begins with '<?xml' or '<model'. "
            "Export the model again, or check that the download is not a web page."
        )
    if b"<!ENTITY" in content:
        raise ValueError(
            f"{path}: the XML declares entities, which CellML does not need and which can read "
            "other files; write their text in their places."
        )
    formats = needed("myokit.formats", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes on units, which are checked here later
        return formats.importer("cellml").model(str(path))


def _from_mmt(path: Path, content: bytes) -> Any:
    myokit = needed("myokit", path)
    model = myokit.parse(content.decode("utf-8", "replace").splitlines())[0]
    if model is None:
        raise ValueError(
            f"{path}: there is no [[model]] section; expected a Myokit file with a model."
        )
    model.validate()
    return model


def _from_ode(path: Path, content: bytes) -> tuple[Any, list[str]]:
    gotranx = needed("gotranx", path)
    needed("myokit", path)
    converter = needed("gotranx.myokit", path)
    structlog = needed("structlog", path)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        ode = gotranx.load.ode_from_string(
            content.decode("utf-8", "replace"), name=path.stem, remove_singularities=False
        )
        units = _without_units(ode)
        time_unit, note = _time_unit(units)
        model = converter.gotran_to_myokit(ode, time_unit=time_unit)
    finally:
        structlog.configure(**before)
    _without_copies(model)
    for variable in model.variables(deep=True):
        if variable.name() in units:
            variable.set_unit(_as_myokit(units[variable.name()], path))
    return model, [note]


def _without_units(ode: Any) -> dict[str, str]:
    """Take the units off a gotran model, some of which Myokit cannot parse; by name."""
    found: dict[str, str] = {}
    for component in ode.components:
        derivatives = component.state_derivatives
        for atom in (
            *component.parameters, *component.intermediates, *derivatives,
            *(derivative.state for derivative in derivatives),
        ):  # fmt: skip
            if atom.unit_str is not None:
                found[atom.name] = atom.unit_str
                object.__setattr__(atom, "unit_str", None)
    return found


def _without_copies(model: Any) -> None:
    """Drop the copies that gotranx makes of a variable listed under two components.

    Names are unique in a gotran model, and formulas refer to one of the copies only.
    """
    by_name: dict[str, list[Any]] = {}
    for variable in model.variables(deep=True):
        by_name.setdefault(variable.name(), []).append(variable)
    for copies in by_name.values():
        # the last one made is the one that formulas refer to, if any do
        used = [v for v in copies if any(v.refs_by(x) for x in {False, v.is_state()})]
        for variable in copies:
            if len(copies) > 1 and variable is not (used or copies)[-1]:
                if variable.is_state():
                    variable.demote()
                variable.parent().remove_variable(variable)
    model.validate()


def _time_unit(units: dict[str, str]) -> tuple[str, str]:
    """The unit of time that most of a gotran model's times and rates are in; it states none."""
    counts = {"ms": 0, "s": 0}
    for text in units.values():
        for unit in counts:
            counts[unit] += text.replace(" ", "") in (unit, f"{unit}**-1", f"1/{unit}")
    unit = "s" if counts["s"] > counts["ms"] else "ms"
    why = (
        f"{counts[unit]} of its times and rates are in {unit}"
        if counts[unit]
        else "nothing in it says otherwise"
    )
    return unit, f"the time of a .ode file has no unit; taken in {unit}, because {why}"


def _as_myokit(text: str, path: Path) -> Any:
    """A unit as pint reads it, as Myokit holds it; None where pint does not know it."""
    myokit = needed("myokit", path)
    try:
        factor, powers = base_units(text)
    except ValueError:
        return None
    order = ("gram", "meter", "second", "ampere", "kelvin", "candela", "mole")
    kilograms = powers.pop("kilogram", 0.0)
    exponents = [powers.pop(unit, 0.0) for unit in order]
    exponents[0] += kilograms
    if powers or factor <= 0:
        return None
    return myokit.Unit(exponents, math.log10(factor) + 3 * kilograms)


def _explained(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    hint = "check the file in the program that wrote it"
    lower = text.lower()
    if "delay" in lower or "csymbol" in lower:
        hint = "delay equations are not supported; a cell model is a set of ordinary ones"
    elif "import" in lower and "not supported" in lower:
        hint = "CellML 1.1 imports are not supported; write the imported parts into the file"
    elif "unit" in lower:
        hint = "name units that the file defines, or that the format knows"
    elif "reset" in lower:
        hint = "resets make a model jump; take them out"
    elif "not a cellml" in lower:
        hint = "expected the namespace of CellML 1.0, 1.1 or 2.0 in the root element"
    elif "no time" in lower or "free variable" in lower or "derivative" in lower:
        hint = "a cell model has derivatives with respect to one time"
    return f"{path}: it cannot be read as a cell model: {text} ({hint})."
