"""Which objects a configuration may build: public ones, defined by this package, without effects.

A target is written ``cardiotwin.<module>.<name>`` or ``cardiotwin.<module>.<Class>.<classmethod>``.
The name must be an attribute of a module of this package and must have been *defined* here: what a
module merely imports (``cardiotwin.anatomy.mesh.np``) cannot be reached through it.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any

from cardiotwin.config.nearest import suggestion

PACKAGE = "cardiotwin"

# Packages that describe physics and method. `run` describes experiments, so its classes may be
# built, but its functions do the work and may not be called by a file. `results` (which writes
# files), `config`, `cli`, `doctor`, `session` and `progress` are out of reach.
OPEN_PACKAGES = (
    "anatomy",
    "ionic",
    "tissue",
    "propagation",
    "ecg",
    "twin",
    "inference",
    "scenario",
)
CLASSES_ONLY = ("run",)

_EFFECTS = ("write", "save", "dump")
_SHAPE = re.compile(rf"{PACKAGE}(\.[A-Za-z][A-Za-z0-9_]*)+")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument a target takes."""

    name: str
    annotation: Any
    unit: str | None
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Target:
    """Something a configuration may build, with the arguments it takes."""

    name: str
    call: Callable[..., Any]
    result: Any  # class of what it returns; None where that is not known
    parameters: typing.Mapping[str, Parameter]
    open_ended: bool  # takes **anything


@cache
def resolve(name: str) -> Target:
    """Find what a ``_target_`` names.

    Args:
        name: the dotted name.

    Returns:
        The target.

    Raises:
        ValueError: it is not a public class or function that this package defines and opens to
            configurations.
    """
    if not _SHAPE.fullmatch(name) or "._" in name:
        raise ValueError(_refusal(name))
    module, rest = _module_of(name)
    found = _attribute(module, rest, name)
    home = getattr(found, "__module__", None) or ""
    _require_open(home, is_class=inspect.isclass(found), name=name)
    if inspect.isabstract(found):
        raise ValueError(_refusal(name, "it is abstract"))
    return _describe(name, found)


def _refusal(name: str, reason: str = "") -> str:
    because = f" ({reason})" if reason else ""
    return (
        f"{name!r} cannot be built from a configuration{because}; a _target_ must be a public "
        f"class or function that {PACKAGE} itself defines, such as "
        f"{PACKAGE}.anatomy.idealised.biventricle"
    )


def _module_of(name: str) -> tuple[ModuleType, list[str]]:
    """Import the longest prefix that is a module of this package, judged by its finder only."""
    parts = name.split(".")
    if len(parts) > 2 and parts[1] not in OPEN_PACKAGES + CLASSES_ONLY:
        raise ValueError(_refusal(name, f"{PACKAGE}.{parts[1]} is not open to configurations"))
    depth = 1
    while depth < len(parts) - 1:
        candidate = ".".join(parts[: depth + 1])
        parent = importlib.import_module(".".join(parts[:depth]))
        if not hasattr(parent, "__path__") or importlib.util.find_spec(candidate) is None:
            break
        depth += 1
    return importlib.import_module(".".join(parts[:depth])), parts[depth:]


def _attribute(module: ModuleType, rest: list[str], name: str) -> Any:
    """Read one public attribute, or one class method of a public class; no further traversal."""
    found = getattr(module, rest[0], None)
    if found is None:
        public = [key for key in dir(module) if not key.startswith("_")]
        known = [f"{module.__name__}.{k}" for k in public if inspect.isclass(getattr(module, k))]
        raise ValueError(_refusal(name, f"there is no such name{suggestion(name, known)}"))
    if len(rest) == 1 and (inspect.isclass(found) or _is_function(found)):
        return found
    if len(rest) == 2 and inspect.isclass(found):
        _require_open(found.__module__, is_class=True, name=name)
        if isinstance(inspect.getattr_static(found, rest[1], None), classmethod):
            return getattr(found, rest[1])
        methods = [
            f"{module.__name__}.{rest[0]}.{key}"
            for key in dir(found)
            if not key.startswith("_")
            and isinstance(inspect.getattr_static(found, key, None), classmethod)
        ]
        raise ValueError(_refusal(name, f"no such class method{suggestion(name, methods)}"))
    raise ValueError(_refusal(name))


def _is_function(found: Any) -> bool:
    # Compiled functions (eqx.filter_jit and the like) are objects that carry what they wrap.
    return inspect.isfunction(found) or inspect.isfunction(getattr(found, "__wrapped__", None))


def _require_open(home: str, *, is_class: bool, name: str) -> None:
    """Refuse what was defined elsewhere, and what does work instead of describing it."""
    parts = home.split(".")
    if parts[0] != PACKAGE or len(parts) < 2:
        raise ValueError(_refusal(name, f"it is defined in {home or 'no module'}"))
    if parts[1] in OPEN_PACKAGES:
        last = name.rpartition(".")[2]
        if is_class or not last.startswith(_EFFECTS):
            return
        raise ValueError(_refusal(name, "it writes files"))
    if not (parts[1] in CLASSES_ONLY and is_class):
        raise ValueError(_refusal(name, f"{PACKAGE}.{parts[1]} is not open to configurations"))


def _describe(name: str, found: Any) -> Target:
    owner = found if inspect.isclass(found) else getattr(found, "__self__", None)
    signature = inspect.signature(found)
    parameters = _parameters(found, signature)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    open_ended = inspect.Parameter.VAR_KEYWORD in kinds
    if open_ended and inspect.isclass(owner) and owner is not found:
        # `endo(cls, **parameters)` hands them to the constructor.
        of_class = _parameters(owner, inspect.signature(owner))
        optional = {k: dataclasses.replace(p, default=None) for k, p in of_class.items()}
        parameters = {**optional, **parameters}
        open_ended = False
    hints = _hints(found)
    result = owner if inspect.isclass(owner) else hints.get("return")
    return Target(
        name=name,
        call=found,
        result=result if inspect.isclass(result) else None,
        parameters=MappingProxyType(parameters),
        open_ended=open_ended,
    )


def _parameters(found: Any, signature: inspect.Signature) -> dict[str, Parameter]:
    hints = _hints(found)
    units = _field_units(found)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: Parameter(
            name=name,
            annotation=hints.get(name, parameter.annotation),
            unit=units.get(name),
            default=parameter.default,
        )
        for name, parameter in signature.parameters.items()
        if parameter.kind in named
    }


def _field_units(found: Any) -> dict[str, str]:
    """Units written in the metadata of a dataclass's fields (``param(default, unit)``)."""
    if not (inspect.isclass(found) and dataclasses.is_dataclass(found)):
        return {}
    return {
        field.name: field.metadata["unit"]
        for field in dataclasses.fields(found)
        if "unit" in field.metadata
    }


def _hints(found: Any) -> dict[str, Any]:
    """Annotations of a target's arguments, evaluated where they can be."""
    sources = [found]
    if inspect.isclass(found):
        sources = [found, found.__init__]  # a hand-written __init__ speaks for itself
    hints: dict[str, Any] = {}
    for source in sources:
        source = getattr(source, "__wrapped__", source)
        try:
            hints.update(typing.get_type_hints(source, include_extras=True))
        except (NameError, TypeError):
            # Names that only type checkers import: keep what is not a forward reference.
            raw = getattr(source, "__annotations__", {})
            hints.update({k: v for k, v in raw.items() if not isinstance(v, str)})
    if inspect.isclass(found):
        hints.pop("return", None)
    return hints
