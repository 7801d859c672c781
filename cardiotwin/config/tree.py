"""Checking a configuration whole, then building the objects it describes."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from cardiotwin.config.nearest import suggestion
from cardiotwin.config.targets import Target, resolve
from cardiotwin.config.values import Built, Invalid, MismatchError, convert, describe

_SHOWN = 20  # problems in one message
_WIDEST = 40  # characters of a value in a list of keys


@dataclasses.dataclass
class _Call(Built):
    """An object to build: what to call, with which arguments, at which key."""

    key: str
    target: Target
    arguments: dict[str, Any]
    deferred: bool = False

    @property
    def result(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.target.result


def check(config: Any) -> None:
    """Check targets, keys and types of a whole configuration without building anything.

    Args:
        config: an OmegaConf config or plain nested mappings.

    Raises:
        ValueError: lists every problem found, each with its key.
    """
    _plan(config)


def build(config: Any) -> Any:
    """Check a whole configuration, then build the objects it describes, innermost first.

    A node with a ``_target_`` becomes the object, with its other keys as keyword arguments; with
    ``_partial_: true`` it becomes a function that still wants the missing arguments. Other
    mappings become dictionaries, lists become lists.

    Args:
        config: an OmegaConf config or plain nested mappings.

    Returns:
        What the root describes.

    Raises:
        ValueError: a foreign target, an unknown key, a value of the wrong type, a missing one, or
            a constructor's own refusal, named by its key.
    """
    return _execute(_plan(config))


def describe_keys(config: Any) -> str:
    """List every key a configuration may hold, with its value and what fits it.

    Args:
        config: a valid configuration.

    Returns:
        One line a key, grouped by object.
    """
    lines: list[str] = []
    _describe_call(_plan(config), lines)
    return "\n".join(lines).strip()


def _describe_call(node: Any, lines: list[str]) -> None:
    if isinstance(node, (dict, list, tuple)):
        for child in node.values() if isinstance(node, dict) else node:
            _describe_call(child, lines)
    if not isinstance(node, _Call):
        return
    lines.append(f"\n{node.key or 'run'}  ({node.target.name})")
    for name, parameter in node.target.parameters.items():
        value = node.arguments.get(name, parameter.default)
        if not isinstance(value, _Call):
            key, fits = _join(node.key, name), describe(parameter.annotation, parameter.unit)
            lines.append(f"  {f'{key}={_short(value)}':<44} {fits}")
    for child in node.arguments.values():
        _describe_call(child, lines)


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    plain = isinstance(value, (int, str, list, tuple, dict))
    text = str(value) if plain else f"({type(value).__name__})"
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _plan(config: Any) -> Any:
    planner = _Planner()
    plan = planner.visit(_plain(config), "")
    messages = planner.messages()
    if len(messages) == 1:
        raise ValueError(messages[0])
    if messages:
        shown = [f"the configuration has {len(messages)} problems:", *messages[:_SHOWN]]
        if len(messages) > _SHOWN:
            shown.append(f"and {len(messages) - _SHOWN} more")
        raise ValueError("\n  ".join(shown))
    return plan


def _plain(config: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

    if not OmegaConf.is_config(config):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except InterpolationResolutionError as error:
        key, text = getattr(error, "full_key", None), str(error).splitlines()[0]
        unset = re.search(r"Environment variable '(\w+)' not found", text)
        if unset:
            text = f"{unset[1]} is not set in the environment; set it, or give {key}=..."
        raise ValueError(f"{key or 'config'}: {text}") from error
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        first = str(error).splitlines()[0].replace("Missing mandatory value: ", "")
        if type(error).__name__ == "MissingMandatoryValue":
            raise ValueError(f"{key}: a value is required; give {key}=...") from error
        raise ValueError(f"{key}: {first}") from error


class _Planner:
    """Walks the tree once, gathers problems, and keeps every key that would have been valid."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str, str | None]] = []  # key, message, unknown name
        self.known: list[str] = []

    def messages(self) -> list[str]:
        return [
            f"{key}: {message}{suggestion(unknown, self.known) if unknown else ''}"
            for key, message, unknown in self.problems
        ]

    def report(self, key: str, message: str, unknown: str | None = None) -> Invalid:
        self.problems.append((key or "config", message, unknown))
        return Invalid()

    def visit(self, node: Any, key: str) -> Any:
        if isinstance(node, Mapping):
            if "_target_" in node:
                return self.visit_target(node, key)
            for name in node:
                if isinstance(name, str) and name.startswith("_"):
                    self.report(_join(key, name), "this key needs a _target_ beside it")
            return {name: self.visit(child, _join(key, name)) for name, child in node.items()}
        if isinstance(node, (list, tuple)):
            return [self.visit(child, f"{key}[{index}]") for index, child in enumerate(node)]
        return node

    def visit_target(self, node: Mapping[Any, Any], key: str) -> Any:
        given = {
            name: self.visit(child, _join(key, name))
            for name, child in node.items()
            if name not in ("_target_", "_partial_")
        }
        name = node["_target_"]
        deferred = node.get("_partial_", False)
        if not isinstance(deferred, bool):
            self.report(_join(key, "_partial_"), f"expected true or false, got {deferred!r}")
        try:
            target = resolve(name) if isinstance(name, str) else None
        except ValueError as error:
            return self.report(_join(key, "_target_"), str(error))
        if target is None:
            return self.report(_join(key, "_target_"), f"expected text, got {name!r}")
        arguments = self.arguments(target, given, key)
        missing = [p.name for p in target.parameters.values() if p.required and p.name not in given]
        if missing and not deferred:
            return self.report(key, f"{target.name} also needs {', '.join(missing)}")
        return _Call(key=key, target=target, arguments=arguments, deferred=bool(deferred))

    def arguments(self, target: Target, given: dict[Any, Any], key: str) -> dict[str, Any]:
        self.known.extend(_join(key, name) for name in target.parameters)
        arguments = {}
        for name, value in given.items():
            where = _join(key, name)
            parameter = target.parameters.get(name)
            if parameter is None and (not target.open_ended or str(name).startswith("_")):
                self.report(where, f"unknown key; {_takes(target)}", unknown=where)
            elif parameter is None:
                arguments[name] = value
            else:
                try:
                    arguments[name] = convert(value, parameter.annotation, parameter.unit)
                except MismatchError as error:
                    self.report(where, str(error))
        return arguments


def _takes(target: Target) -> str:
    short = target.name.rpartition(".")[2]
    if not target.parameters:
        return f"{short} takes no keys"
    return f"{short} takes {', '.join(target.parameters)}"


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _execute(node: Any) -> Any:
    if isinstance(node, _Call):
        arguments = {name: _execute(value) for name, value in node.arguments.items()}
        if node.deferred:
            return functools.partial(node.target.call, **arguments)
        try:
            return node.target.call(**arguments)
        except ValueError as error:
            if node.key:
                raise ValueError(f"{node.key}: {error}") from error
            raise
    if isinstance(node, dict):
        return {name: _execute(value) for name, value in node.items()}
    if isinstance(node, (list, tuple, set, frozenset)):
        return type(node)(_execute(value) for value in node)
    return node
