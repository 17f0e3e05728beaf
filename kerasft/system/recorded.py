"""Reads the JSON files of run folders, and checks what is in them."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from kerasft.errors import UserError
from kerasft.spec import Kind, Labels
from kerasft.system.files import read_json

# Beyond it a number is no figure of anything, and overflows where it is shown or squared.
LARGEST = 1e150


def read_labels(file: Path) -> Labels:
    """Return what the outputs of a network mean, from `labels.json`.

    Raises:
        UserError: If the file is missing, or says no such thing.
    """
    saved = read_json(file, "kind", "names")
    _require(file, "kind", saved["kind"], Kind)
    _require(file, "names", saved["names"], list[str])
    if len(set(saved["names"])) < len(saved["names"]):
        raise UserError(f"The file {str(file)!r} is damaged: a class is in it twice.")
    return Labels(saved["kind"], tuple(saved["names"]))


def read_figures(file: Path) -> dict[str, dict[str, Any]]:
    """Return figures by split, from `metrics.json`.

    Raises:
        UserError: If the file is missing, or holds something else.
    """
    found = read_json(file)
    for split, figures in found.items():
        _require(file, split, figures, dict[str, Any])
        for name, value in figures.items():
            if not isinstance(value, list | dict):  # those of each class
                _require(file, f"{split}.{name}", value, float | None)
    return found


def require_fields(values: Mapping[str, Any], made: Any, file: Path) -> None:
    """See that what a file says can be handed to a class.

    Args:
        values: Values by the names of parameters.
        made: A class with annotations.
        file: The file, for the message.

    Raises:
        UserError: If a value is not what the class wants.
    """
    for name, value in values.items():
        _require(file, name, value, _hint(made, name))


def _hint(made: Any, name: str) -> Any:
    """Return what a class says that a field or parameter is; anything where it says nothing."""
    for place in (made.__init__, *made.__mro__):
        said = getattr(place, "__annotations__", {}).get(name, Any)
        if not isinstance(said, str):
            if said is not Any:
                return said
            continue
        module = sys.modules.get(getattr(place, "__module__", ""), None)
        with suppress(NameError, AttributeError):  # what only a type checker can resolve
            return get_type_hints(SimpleNamespace(__annotations__={name: said}), vars(module))[name]
    return Any


def _require(file: Path, key: str, value: object, wanted: object) -> None:
    if not fits(value, wanted):
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
        raise UserError(
            f"The file {str(file)!r} is damaged: {key} must be {_words(wanted)}. Received: {shown}."
        )


def fits(value: object, wanted: object) -> bool:
    """Whether a value that was read from JSON is of a type.

    Args:
        value: The value.
        wanted: An annotation. What JSON has no word for counts as fitting.

    Example:
        >>> fits([1, "a"], list[int | str]), fits(True, float), fits(3, float | None)
        (True, False, True)
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if wanted is type(None):
        return value is None
    if wanted is float:
        return is_figure(value)
    if wanted is int:
        return isinstance(value, int) and is_figure(value)
    if wanted in (str, bool):
        return isinstance(value, wanted)
    kind = origin or wanted
    if isinstance(kind, type) and issubclass(kind, Mapping):
        values: Iterable[Any] = value.values() if isinstance(value, dict) else ()
        return isinstance(value, dict) and (not inner or all(fits(v, inner[1]) for v in values))
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return isinstance(value, list) and (not inner or all(fits(v, inner[0]) for v in value))
    return True


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; in Python, `True` is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_figure(value: object) -> bool:
    """Whether a value is a number that can be shown and reckoned with.

    Example:
        >>> is_figure(0.5), is_figure(True), is_figure(float("nan")), is_figure(10**400)
        (True, False, False, False)
    """
    return is_number(value) and abs(value) < LARGEST and math.isfinite(value)


def _words(wanted: object) -> str:
    """Return an annotation in words.

    Example:
        >>> _words(float | None), _words(list[str])
        ('a number or null', 'a list of texts')
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    plain = {float: "a number", int: "a whole number", str: "a text", bool: "true or false",
             type(None): "null"}  # fmt: skip
    if wanted in plain:
        return plain[wanted]
    kind = origin or wanted
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "an object"
    return "a list of texts" if inner and inner[0] is str else "a list"
