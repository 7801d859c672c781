"""Checking one configured value against the annotation of the argument it is for."""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from cardiotwin.config.nearest import suggestion
from cardiotwin.units import quantity


class MismatchError(ValueError):
    """A value that does not fit; the message says what would."""


class NotAQuantityError(MismatchError):
    """A text meant as a quantity that is none, or has another dimension."""


class Invalid:
    """Stands for a node whose own problem was reported already; it fits everywhere."""


class Built:
    """Base of what stands for an object not built yet; ``result`` is its class, if known."""

    result: Any
    deferred: bool


_SEQUENCES = (list, tuple, set, frozenset, Sequence, Iterable)


def convert(value: Any, annotation: Any, unit: str | None = None) -> Any:
    """Fit a value read from a configuration to an annotation.

    Args:
        value: a plain value, a list or mapping of such, or a ``Built`` node.
        annotation: a type hint; anything not understood accepts everything.
        unit: unit of the argument as pint reads it; text such as ``"0.17 S/m"`` is converted.

    Returns:
        The value to pass on.

    Raises:
        MismatchError: it does not fit.
    """
    if isinstance(value, Invalid):
        return value
    if annotation in (Any, inspect.Parameter.empty, object):
        return (
            value if unit is None or isinstance(value, Built) else _array(value, annotation, unit)
        )
    if typing.get_origin(annotation) is Annotated:
        inner, *extras = typing.get_args(annotation)
        return convert(value, inner, next((e for e in extras if isinstance(e, str)), unit))
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return _union(value, annotation, unit)
    if isinstance(value, Built):
        return _built(value, annotation)
    return _plain(value, annotation, unit)


def _union(value: Any, annotation: Any, unit: str | None) -> Any:
    misread: NotAQuantityError | None = None
    for option in typing.get_args(annotation):
        try:
            return convert(value, option, unit)
        except NotAQuantityError as error:
            misread = error
        except MismatchError:
            continue
    literals = [o for o in typing.get_args(annotation) if typing.get_origin(o) is Literal]
    choices = [str(choice) for option in literals for choice in typing.get_args(option)]
    near = suggestion(value, choices) if isinstance(value, str) else ""
    raise misread or _mismatch(value, annotation, unit, near)


def _built(value: Built, annotation: Any) -> Any:
    origin = typing.get_origin(annotation) or annotation
    if origin in (Callable, typing.Callable):
        fits = value.deferred or value.result is None or callable(value.result)
    elif value.deferred:
        fits = False
    elif inspect.isclass(origin) and value.result is not None:
        fits = _is_array(origin) or _is_subclass(value.result, origin)
    else:
        fits = True
    if fits:
        return value
    what = (
        "a deferred call (_partial_)" if value.deferred else getattr(value.result, "__name__", "?")
    )
    raise MismatchError(f"expected {describe(annotation)}, got {what}")


def _is_subclass(candidate: type, parent: type) -> bool:
    try:
        return issubclass(candidate, parent)
    except TypeError:  # protocols with data members cannot be asked
        return True


def _plain(value: Any, annotation: Any, unit: str | None) -> Any:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return _literal(value, annotation, arguments)
    if annotation is None or annotation is type(None):
        return _require(value is None, value, value, annotation, unit)
    if annotation is bool or annotation is str:
        return _require(isinstance(value, annotation), value, value, annotation, unit)
    if annotation is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _require(whole, value, value, annotation, unit)
    if annotation is float:
        return _number(value, annotation, unit)
    if inspect.isclass(annotation) and issubclass(annotation, Path):
        text = isinstance(value, str)
        return _require(text, Path(value) if text else value, value, annotation, unit)
    if _is_array(annotation):
        return _array(value, annotation, unit)
    container = origin or annotation
    if container in _SEQUENCES:
        return _sequence(value, annotation, container, arguments, unit)
    if container in (dict, Mapping):
        return _mapping(value, annotation, arguments, unit)
    if inspect.isclass(container):
        return _require(_is_instance(value, container), value, value, annotation, unit)
    return value


def _is_instance(value: Any, parent: type) -> bool:
    try:
        return isinstance(value, parent)
    except TypeError:
        return True


def _require(fits: bool, converted: Any, value: Any, annotation: Any, unit: str | None) -> Any:
    if not fits:
        raise _mismatch(value, annotation, unit)
    return converted


def _literal(value: Any, annotation: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return value
    near = suggestion(str(value), map(str, choices)) if isinstance(value, str) else ""
    raise _mismatch(value, annotation, None, near)


def _number(value: Any, annotation: Any, unit: str | None) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and unit is not None:
        try:
            return float(quantity(value, unit))
        except ValueError as error:
            raise NotAQuantityError(str(error)) from error
    raise _mismatch(value, annotation, unit)


def _is_array(annotation: Any) -> bool:
    """Whether this is an array type: jaxtyping's, numpy's or jax's."""
    name = getattr(annotation, "__module__", "").partition(".")[0]
    return hasattr(annotation, "array_type") or (
        name in ("numpy", "jax", "jaxlib") and getattr(annotation, "__name__", "").endswith("rray")
    )


def _array(value: Any, annotation: Any, unit: str | None) -> Any:
    """Numbers and nested lists of numbers; the constructor makes the array and checks its shape."""
    if isinstance(value, list):
        return [_array(item, annotation, unit) for item in value]
    if isinstance(value, int) and not (unit or isinstance(value, bool)):
        return value  # indices stay whole
    return _number(value, annotation, unit)


def _sequence(
    value: Any, annotation: Any, container: Any, arguments: tuple[Any, ...], unit: str | None
) -> Any:
    if not isinstance(value, list):
        raise _mismatch(value, annotation, unit)
    fixed = container is tuple and bool(arguments) and arguments[-1] is not Ellipsis
    if fixed and len(value) != len(arguments):
        raise _mismatch(value, annotation, unit, f" ({len(value)} given)")
    kinds = arguments if fixed else [arguments[0] if arguments else Any] * len(value)
    items = []
    for index, (item, kind) in enumerate(zip(value, kinds, strict=True)):
        try:
            items.append(convert(item, kind, unit))
        except MismatchError as error:
            raise type(error)(f"entry {index}: {error}") from error
    return container(items) if container in (tuple, set, frozenset) else items


def _mapping(value: Any, annotation: Any, arguments: tuple[Any, ...], unit: str | None) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(value, annotation, unit)
    kind_of_key, kind = arguments if arguments else (Any, Any)
    result = {}
    for key, item in value.items():
        try:
            result[convert(key, kind_of_key)] = convert(item, kind, unit)
        except MismatchError as error:
            raise type(error)(f"entry {key!r}: {error}") from error
    return result


def _mismatch(value: Any, annotation: Any, unit: str | None, note: str = "") -> MismatchError:
    got = repr(value) if value is not None else "null"
    if isinstance(value, dict):
        got = "a mapping without _target_"
    return MismatchError(f"expected {describe(annotation, unit)}, got {got}{note}")


def _plural(phrase: str) -> str:
    for one, many in (("number", "numbers"), ("list", "lists")):
        for article in ("a ", "a whole "):
            start = article + one
            if phrase.startswith(start):
                return article.removeprefix("a ") + many + phrase[len(start) :]
    return phrase


def describe(annotation: Any, unit: str | None = None) -> str:
    """Say in words what fits an annotation.

    Args:
        annotation: a type hint.
        unit: unit of the argument.

    Returns:
        A phrase that follows "expected".
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0], next((a for a in arguments[1:] if isinstance(a, str)), unit))
    if origin in (Union, types.UnionType):
        phrases = dict.fromkeys(describe(argument, unit) for argument in arguments)
        return " or ".join(phrases)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} ({', '.join(describe(a, unit) for a in arguments)})"
    if (origin or annotation) in _SEQUENCES:
        return f"a list of {_plural(describe(arguments[0], unit))}" if arguments else "a list"
    if (origin or annotation) in (dict, Mapping):
        return "a mapping"
    if (origin or annotation) is Callable:
        return "a deferred call (_partial_: true)"
    if annotation is float or _is_array(annotation) or (unit and annotation is Any):
        return f"a number in {unit} or text with a unit" if unit else "a number"
    words = {
        Any: "anything",
        inspect.Parameter.empty: "anything",
        int: "a whole number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
        None: "null",
    }
    named = annotation if inspect.isclass(annotation) else origin
    return words.get(annotation, getattr(named, "__name__", str(annotation)))
