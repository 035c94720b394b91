"""Values of options, as a config or a command line gives them, against the types that a factory declares."""

import inspect
import numbers
import typing
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType, UnionType
from typing import Any

PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}
"""The types that are checked; what is declared by others is left to the factory."""


def wrong_type(factory: Callable[..., Any], options: Mapping[str, Any]) -> str | None:
    """What is wrong with the first of `options` that is not of its declared type; None if nothing is.

    Of a `partial`, what the function inside declares.
    """
    function: Any = factory
    while isinstance(function, partial):
        function = function.func
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (AttributeError, NameError, TypeError):  # declared by names that cannot be looked up
        return None
    parameters = inspect.signature(function).parameters
    for name, value in options.items():
        plain = _plain_types(hints.get(name, Any)) if name in parameters else None
        if plain is not None and value is not parameters[name].default and not any(_is(value, each) for each in plain):
            return f"{name} is {value!r}; give {' or '.join(PLAIN[each] for each in plain)}"
    return None


def _plain_types(declared: Any) -> list[type] | None:
    """The types of `PLAIN` that a declaration allows; None if it allows others."""
    origin = typing.get_origin(declared)
    if origin is typing.Literal:
        return list(dict.fromkeys(type(value) for value in typing.get_args(declared)))
    if origin in (typing.Union, UnionType):
        parts = [_plain_types(part) for part in typing.get_args(declared)]
        return None if None in parts else [each for part in parts if part is not None for each in part]
    return [declared] if declared in PLAIN else None


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, kind)
