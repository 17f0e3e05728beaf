"""A part that is replaced by `GROUP._target_=...`: what belonged to the former one goes with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config.parameters import NotFound, define
from kerasft.config.schema import NAMED, RUNTIME

_TARGET = re.compile(r"[+]*((?:[A-Za-z_]\w*)(?:\.\w+)*)\._target_=.*", re.DOTALL)


def replaced(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that put another call into a node.

    Example:
        >>> replaced(["head._target_=mine.head", "head.width=3"])
        ['head._target_=mine.head']
    """
    found = [(one, match[1]) for one in overrides if (match := _TARGET.fullmatch(one))]

    def is_part(key: str) -> bool:
        group, *step = key.split(".")
        return group in RUNTIME and len(step) == (group in NAMED)

    return [one for one, key in found if is_part(key)]


def let_go(
    cfg: DictConfig, overrides: Sequence[str], before: Callable[[Sequence[str]], DictConfig]
) -> None:
    """Take out of a config what was of parts that the command line has replaced.

    A part of the same module (another optimizer of Keras) keeps the values that it takes too; one
    from elsewhere begins with what the command line gives it.

    Args:
        cfg: The composed config, changed in place.
        overrides: What it was composed of.
        before: Composes without the overrides that replace parts.
    """
    if not (new := replaced(overrides)):
        return
    former = before([one for one in overrides if one not in new])
    given = keys_of(overrides)
    for one in new:
        key = one.lstrip("+").partition("._target_=")[0]
        node, was = OmegaConf.select(cfg, key), OmegaConf.select(former, key)
        if not isinstance(node, DictConfig) or not isinstance(was, DictConfig):
            continue
        same = _module_of(node) == _module_of(was)
        with_all = RUNTIME.get(key.split(".")[0], frozenset())
        # By their keys: `in` says no of a value that is missing.
        names = [name for name in was.keys() & node.keys() - with_all - {"_target_"}
                 if not is_given(f"{key}.{name}", given)]  # fmt: skip
        take_out(node, names, () if same else names)


def take_out(
    node: DictConfig, names: Iterable[str], foreign: Container[str],
    usual: Mapping[str, Any] | None = None,
) -> None:
    """Take values out of a node that were meant for another part than the one it calls now.

    Args:
        node: A node with a `_target_`, changed in place; not where that is none: the check tells.
        names: The keys of the values.
        foreign: Those of them that go even where the new part takes one of this name: it would
            mean another thing by it.
        usual: What the new part's own choice says of these keys; it takes the place of what goes.
    """
    try:
        found = define(str(node.get("_target_")))
    except (NotFound, SyntaxError):
        return
    usual = usual or {}
    OmegaConf.set_struct(node, False)
    for name in names:
        taken = name in usual or name == "_target_" or found.open or name in found.parameters
        if name in foreign and name in usual:
            node[name] = usual[name]
        elif name in foreign or not taken:
            del node[name]
    OmegaConf.set_struct(node, None)


def _module_of(node: DictConfig) -> str:
    return str(node.get("_target_")).rpartition(".")[0]


def keys_of(overrides: Sequence[str]) -> set[str]:
    """Return the keys that overrides set or take out.

    Example:
        >>> keys_of(["+a.b=1", "~c"]) == {"a.b", "c"}
        True
    """
    return {one.lstrip("+~").partition("=")[0] for one in overrides}


def is_given(key: str, given: set[str]) -> bool:
    """Whether a key, or one below it, is among those given."""
    return any(one == key or one.startswith(f"{key}.") for one in given)
