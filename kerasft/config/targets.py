"""Checks what config nodes call: trusted targets, known keywords, plain types."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from kerasft.config.bounds import written
from kerasft.config.composition import options
from kerasft.config.keras_parts import ALLOWED, REFUSED, REFUSED_NAMES
from kerasft.config.parameters import Definition, NotFound, Parameter, define
from kerasft.errors import nearest, shown
from kerasft.system.recorded import is_number
from kerasft.system.shipped import shipped_dir

# The modules of what a config may call beside `parts`.
TRUSTED = tuple(ALLOWED)
_PART = re.compile(r"\b_target_: *(kerasft(?:\.\w+)+)")
_BATCHES = "keras.callbacks.TensorBoard.profile_batch"
OWN_WORDS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

_TYPES: dict[str, Any] = {
    "int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None),
}  # fmt: skip
_WORDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "None": "null",
}  # fmt: skip


@cache
def parts() -> frozenset[str]:
    """Return what a config may call of kerasft itself: the parts that a shipped config names.

    Everything else in the same modules, whatever it imports, writes or unpacks, is not for it.

    Example:
        >>> heads = "kerasft.model.heads.pooled"
        >>> f"{heads}.mlp" in parts(), f"{heads}.pool" in parts()
        (True, False)
    """
    # Not `config_dir()`: a sweep composes from the copy in its folder, which anybody may have made.
    texts = (path.read_text(encoding="utf-8") for path in shipped_dir().rglob("*.yaml"))
    return frozenset(name for text in texts for name in _PART.findall(text))


def part_problems(
    key: str, node: DictConfig, injected: frozenset[str], trusted: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the node of a part, which must be whole; see `node_problems`."""
    if isinstance(node, DictConfig) and node.get("_partial_"):
        yield f"{key}._partial_", (
            f"{key}._partial_ must be left out: the run needs the part itself, and not a function "
            f"that would make it. Received: _partial_={short(node['_partial_'])}."
        )
    elif isinstance(node, DictConfig):
        target = str(node.get("_target_"))
        home, group = target.rpartition(".")[0], key.split(".")[0]
        if group in _HOMES and home in TRUSTED and home not in _HOMES[group]:
            yield f"{key}._target_", (
                f"{key}._target_ must be a part of {' or '.join(_HOMES[group])}, or one of your "
                f"own. Received: {target!r}."
            )
            return
    yield from node_problems(key, node, injected, trusted)


# Where Keras has what a group takes.
_HOMES = {
    "callbacks": ("keras.callbacks",), "optimizer": ("keras.optimizers",),
    "augment": ("keras.layers", "keras_hub.layers"),
}


def node_problems(
    key: str, node: DictConfig, injected: frozenset[str], trusted: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one node and the nodes inside it.

    Args:
        key: The node's key.
        node: The node.
        injected: The names of what the run hands in when it builds the node.
        trusted: Import prefixes that a target may start with, beside `TRUSTED`.

    Yields:
        Key and message.
    """
    if not isinstance(node, DictConfig):
        yield key, f"{key} must be a mapping with a `_target_`. Received: {node!r}."
        return
    if odd := [name for name in node if not isinstance(name, str)]:
        yield key, f"{key} may hold words as keys alone. Received: {odd[0]!r}."
        return
    if "_target_" not in node:
        group = key.split(".")[0]
        yield key, (
            f"{key} has no `_target_`: no part is chosen there. Received: {short(node)}. "
            f"Choose {group}=NAME first (one of {', '.join(options(group))}), or give a _target_."
        )
        return
    target = node["_target_"]
    if refusal := _untrusted(target, trusted):
        meant = nearest(str(target), sorted(parts())) if str(target).startswith("kerasft.") else ""
        yield f"{key}._target_", (
            f"{key}._target_ is refused: {refusal}. Received: {target!r}.{meant}"
        )
        return
    try:
        found = define(target)
    except NotFound as error:
        yield f"{key}._target_", (
            f"{key}._target_ leads nowhere: there is no {error.part!r} in "
            f"{target[: target.rfind(error.part)].rstrip('.') or 'the installed packages'}. "
            f"Received: {target!r}.{nearest(error.part, error.allowed)}"
        )
        return
    except SyntaxError as error:
        yield f"{key}._target_", f"{key}._target_: {error.filename} cannot be read: {error}."
        return
    if not _stays_inside(target, found, trusted):
        yield f"{key}._target_", (
            f"{key}._target_ is refused: it leads through an imported name to {found.module!r}, "
            f"outside of what is trusted. Received: {target!r}."
        )
        return
    yield from _keywords(key, node, found, injected)
    for name, child in node.items():
        if not isinstance(child, DictConfig | ListConfig):
            continue
        for place, inner in _mappings(child, f"{key}.{name}"):
            if "_target_" in inner and _COMPARING.fullmatch(place):
                yield from comparing_problems(place, inner, trusted)
            elif "_target_" in inner:
                yield from node_problems(place, inner, frozenset(), trusted)
            elif isinstance(inner.get("class_name"), str):
                yield place, _serialized(place, inner["class_name"])


# What compares labels and predictions, where it lies in a config.
_COMPARING = re.compile(r"task\.(loss|metrics\.[^.]+)")
_COMPARES = ("keras.losses", "keras.metrics", "keras_hub.metrics")


def comparing_problems(
    key: str, node: DictConfig, trusted: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the node of a loss or metric, which may be a function of two."""
    target = str(node["_target_"])
    home = target.rpartition(".")[0]
    if home in TRUSTED and home not in _COMPARES and not is_trusted(target, trusted):
        yield f"{key}._target_", (
            f"{key}._target_ must be a part of {' or '.join(_COMPARES)}, or one of your own. "
            f"Received: {target!r}."
        )
        return
    handed: frozenset[str] = frozenset()
    with suppress(NotFound, SyntaxError):  # which `node_problems` tells
        if not _untrusted(target, trusted) and not (found := define(target)).is_class:
            handed = frozenset(list(found.parameters)[:2])
    yield from node_problems(key, node, handed, trusted)


def _mappings(node: DictConfig, key: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield the mappings at and below a node; what is below a call is its own affair."""
    if isinstance(node, DictConfig):
        yield key, node
        if "_target_" in node:
            return
    for name in keys(node):
        child = node._get_node(name)
        if isinstance(child, DictConfig | ListConfig) and not child._is_none():
            yield from _mappings(child, below(key, name))


def _serialized(key: str, name: str) -> str:
    """Say why a part may not be written in the way that Keras saves one."""
    return (
        f"{key} is refused: a mapping with `class_name` is how Keras saves a part, and Keras would "
        f"import and build what it names. Received: class_name={short(name)}. Write it as a call: "
        f"{key}._target_=keras.MODULE.NAME, with its settings beside it."
    )


def is_trusted(target: str, trusted: Iterable[str]) -> bool:
    """Return whether the command line trusts a target: by its own name, or by what it is below.

    Example:
        >>> is_trusted("keras.callbacks.CSVLogger", ["keras.callbacks"])
        True
    """
    return any(target == prefix or target.startswith(f"{prefix}.") for prefix in trusted)


def _untrusted(target: object, trusted: tuple[str, ...]) -> str | None:
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target):
        return "it must be an import path such as keras.optimizers.AdamW"
    if any(part.startswith("_") for part in target.split(".")):
        return "names that start with an underscore are private"
    if target in parts() or is_trusted(target, trusted):
        return None
    module, _, name = target.rpartition(".")
    lifted = f"; --trust {target} allows it all the same"
    if target in REFUSED:
        return REFUSED[target] + lifted
    if name in REFUSED_NAMES:
        return REFUSED_NAMES[name]
    if module in ALLOWED:
        if name in ALLOWED[module] or not _is_there(target):  # then it is misspelt
            return None
        return f"it is not among the parts of {module} that a config may name{lifted}"
    return (
        "it must be a part that kerasft's own configs name, such as "
        f"kerasft.model.heads.pooled.mlp, or start with one of "
        f"{', '.join((*TRUSTED, *trusted))}, or with a prefix that you trust "
        "with --trust PREFIX"
    )


def _is_there(target: str) -> bool:
    try:
        define(target)
    except NotFound:
        return False
    return True


def _stays_inside(target: str, found: Definition, trusted: tuple[str, ...]) -> bool:
    """Whether a target is what its prefix promises, and not something that a module imports.

    `kerasft.training.callbacks.keras.saving.load_model` begins well, too.
    """
    package = target.split(".")[0]
    if target in parts() or target in trusted:
        return True
    if package in ("keras", "keras_hub"):  # their public names lead to private modules
        return found.direct and found.module.split(".")[0] == package
    return found.direct and any(f"{found.module}.".startswith(f"{p}.") for p in trusted)


def _keywords(
    key: str, node: DictConfig, found: Definition, injected: frozenset[str]
) -> Iterator[tuple[str, str]]:
    given = [name for name in node if name not in OWN_WORDS]
    values = {name: node[name] for name in given}
    public = [
        n for n, p in found.parameters.items() if p.keyword and not (p.required and n in injected)
    ]
    for name in given:
        if name not in found.parameters:
            if not found.open:
                yield f"{key}.{name}", (
                    f"{key}.{name} is unknown to {node['_target_']}. "
                    f"Allowed: {', '.join(public) or 'nothing'}. "
                    f"Received: {name}={short(values[name])}.{nearest(name, public)}"
                )
        elif name not in injected and (
            problem := _mismatch(values[name], found.parameters[name], f"{node['_target_']}.{name}")
        ):
            yield f"{key}.{name}", (
                f"{key}.{name} must be {' or '.join(problem)}. Received: {short(values[name])}."
                + nearest(str(values[name]), [word.strip("'") for word in problem])
            )
    if node.get("_partial_") or "_args_" in node:
        return
    if key == "head" and node["_target_"] not in parts():
        return  # its task knows what it is handed, and no task of one's own is asked here
    for name, parameter in found.parameters.items():
        if parameter.required and name not in given and name not in injected:
            yield f"{key}.{name}", f"{key}.{name} has no value. Set it: {key}.{name}=..."


def _mismatch(value: object, parameter: Parameter, name: str = "") -> list[str]:
    """Hold a plain value against a plain annotation; anything richer is left to the call.

    Args:
        value: The value.
        parameter: The parameter.
        name: The parameter's full name, such as `keras.callbacks.TensorBoard.profile_batch`.

    Returns:
        What is allowed, where the value is not.
    """
    if name == _BATCHES and isinstance(value, str | ListConfig):  # its default is 0
        written_so = str(value) if isinstance(value, str) else ",".join(map(str, value))
        fine = re.fullmatch(r" *\d{1,18} *(, *\d{1,18} *)?", written_so)
        return [] if fine else ["a number", "two of them with a comma between"]
    number = re.fullmatch(r"-?\d*\.?\d*(e-?\d+)?", parameter.default or "x")
    if number and name.startswith("keras.callbacks.") and parameter.annotation is None:
        # Keras looks at these at the end of an epoch.
        return [] if isinstance(value, int | float) else ["a number"]
    if isinstance(value, DictConfig):
        return []
    if parameter.annotation is None:
        if value is None:
            return []
        # Keras annotates nothing, but its defaults tell.
        is_float = re.fullmatch(r"-?\d*\.\d*(e-?\d+)?|-?\d+e-?\d+", parameter.default or "")
        if is_float and isinstance(value, str | bool):
            return ["a number"]
        is_int = re.fullmatch(r"-?\d+", parameter.default or "")
        return ["a number"] if is_int and isinstance(value, str) else []
    words: list[str] = []
    for part in parameter.annotation.strip("'\"").split("|"):
        part = part.strip()
        if part.startswith("Literal["):
            literal = ast.literal_eval(f"({part[8:-1]},)")
            if value in literal:
                return []
            words += map(repr, literal)
        elif part in _TYPES:
            if _fits(value, part):
                return []
            words.append(_WORDS[part])
        elif part.startswith(("Sequence[", "list[", "tuple[")):
            of = part.partition("[")[2].removesuffix("]")
            if isinstance(value, ListConfig) and all(_fits(one, of) for one in value):
                return []
            words.append(f"a list, each of it {_WORDS[of]}" if of in _WORDS else "a list")
        else:
            return []
    return words


def _fits(value: object, annotation: str) -> bool:
    """Whether a value is of a plain type; anything richer is left to the call."""
    if annotation not in _TYPES:
        return True
    boolean = isinstance(value, bool) and annotation != "bool"
    return isinstance(value, _TYPES[annotation]) and not boolean


def short(value: Any) -> str:
    """Return a value as a message shows it."""
    if is_number(value):
        return written(value)
    plain = isinstance(value, DictConfig | ListConfig)
    return shown(OmegaConf.to_container(value) if plain else value)


def keys(node: DictConfig | ListConfig) -> list[Any]:
    """Return the keys of a mapping, the places of a list."""
    return list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))


def below(prefix: str, name: object) -> str:
    """Return the key of what stands below another key."""
    return f"{prefix}.{name}" if prefix else str(name)


def walk(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig | ListConfig]]:
    """Yield a node and all below it that hold values, each with its key."""
    yield prefix, node
    for key in keys(node):
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig) and not child._is_none() \
                and not child._is_missing() and not child._is_interpolation():
            yield from walk(child, below(prefix, key))
