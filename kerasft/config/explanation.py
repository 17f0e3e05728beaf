"""`kerasft explain`: what is behind a key, and who set its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.config import composition
from kerasft.config.parameters import NotFound, define
from kerasft.config.schema import OF_ALL, SCALARS, WITHIN
from kerasft.errors import UserError, nearest


def explain(
    key: str, overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = ()
) -> str:
    """Explain a config key: its values, who set them, and what its node calls.

    Args:
        key: A key such as `"head"` or `"augment.flip.mode"`, or a choice such as `"head=mlp"`.
        overrides: Overrides to compose with.
        config_dirs: Folders with configs of your own.

    Returns:
        The explanation, as text.

    Raises:
        UserError: If there is no such key.

    Example:
        >>> "linear" in explain("head")
        True
    """
    name, chosen, _ = key.partition("=")
    overrides = [*overrides, key] if chosen else list(overrides)
    if name.partition(".")[0] in composition.SEARCH:
        return _of_search(name, overrides, config_dirs)
    cfg = composition.compose(overrides, config_dirs=config_dirs)
    places = composition.origins(overrides, config_dirs=config_dirs)
    parts = name.split(".")
    if parts[0] not in cfg:
        if name in (*OF_ALL, *WITHIN):
            if chosen and key.partition("=")[2] in composition.options(name, config_dirs):
                return _recipe(name, key.partition("=")[2], cfg, places, config_dirs)
            return _choices(name, config_dirs)
        names = [*SCALARS, *composition.groups(), *composition.SEARCH]
        raise UserError(
            f"There is no key {name!r}. Allowed: {', '.join(names)}, and the keys below them."
            + nearest(name, names)
        )
    node: Any = cfg
    for i, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in list(node):
            behind = _parameter(cfg, parts[:i], part, config_dirs)
            if behind:
                return behind
            known = list(node) if isinstance(node, DictConfig) else []
            takes = _takes(node)
            raise UserError(
                f"There is no key {'.'.join(parts[: i + 1])!r}. Allowed below "
                f"{'.'.join(parts[:i])}: {', '.join(dict.fromkeys([*map(str, known), *takes]))}."
                + nearest(part, [*map(str, known), *takes])
            )
        parent, node = node, _value(node, part)
    lines = []
    if isinstance(node, DictConfig):
        lines += _values(name, node, places)
        lines += _definition(node)
        for child in node:
            inner = node._get_node(child)  # `node[child]` raises where the value is missing
            if isinstance(inner, DictConfig) and not inner._is_none() and "_target_" in inner:
                lines += ["", f"{name}.{child}", *_indent(_definition(inner, brief=True))]
    else:
        lines += [f"{name}: {_show(node)}", f"  set by {places.get(name, 'built-in default')}"]
        lines += _documented(parent, parts, cfg)
    if name in composition.groups():
        lines += ["", _choices(name, config_dirs)]
    return "\n".join(lines)


def _of_search(name: str, overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """Explain what `kerasft sweep` searches with: the values, and what each of them means."""
    group, *rest = name.split(".")
    own = [
        override for override in overrides
        if override.lstrip("+~").partition("=")[0].split(".")[0] in composition.SEARCH
    ]  # fmt: skip
    search = composition.compose_search(own, config_dirs=config_dirs)
    launcher = search.pop("launcher")
    node: Any = composition.as_config({composition.SWEEP: search, "launcher": launcher})
    for i, part in enumerate([group, *rest]):
        if not isinstance(node, DictConfig) or part not in node:
            known = list(node) if isinstance(node, DictConfig) else []
            raise UserError(
                f"There is no key {'.'.join([group, *rest][: i + 1])!r}. Allowed below "
                f"{'.'.join([group, *rest][:i])}: {', '.join(map(str, known))}."
                + nearest(part, [str(one) for one in known])
            )
        node = node[part]
    if not isinstance(node, DictConfig):
        means = _comments().get(name.partition(".")[2], "")
        return f"{name}: {_show(node)}" + (f"\n  {means}" if means else "")
    told = {f"{composition.SWEEP}.{key}": text for key, text in _comments().items()}
    values = _flat(name, composition.plain(node))
    rows = [(key, _show(value), told.get(key, "")) for key, value in values]
    lines = _aligned(rows) + _definition(node)
    if not rest:
        lines += ["", _choices(group, config_dirs)]
    return "\n".join(lines)


def _flat(prefix: str, value: object) -> Iterator[tuple[str, Any]]:
    """Yield what stands at the ends of a mapping, whose keys may hold dots."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}", inner)
    else:
        yield prefix, value


def _comments() -> dict[str, str]:
    """Return what stands behind each key of a search in the file that all of them begin with."""
    file = composition.config_dir() / composition.SWEEP / "base.yaml"
    found = re.findall(r"^(\w+):.*?  # (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return dict(found)


def _takes(node: DictConfig) -> list[str]:
    """Return the keywords that a node's target takes."""
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return []
    try:
        return list(define(node["_target_"]).parameters)
    except NotFound:
        return []


def _choices(group: str, config_dirs: Sequence[str]) -> str:
    names = composition.options(group, config_dirs)
    return f"choose with {group}=NAME: {', '.join(names) or 'nothing yet'}"


def _recipe(
    group: str, choice: str, cfg: DictConfig, places: dict[str, str], config_dirs: Sequence[str]
) -> str:
    """Explain what an experiment sets: the parts that it chooses, and values."""
    folders = [composition.config_dir(), *map(Path, config_dirs)]
    file = next(f for one in folders if (f := one / group / f"{choice}.yaml").is_file())
    lines, text = [], file.read_text("utf-8")
    for line in text.splitlines():
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    parts = [
        (key.removeprefix("override").strip().lstrip("/"), _show(part))
        for one in (OmegaConf.create(text).get("defaults") or [])
        if isinstance(one, DictConfig)
        for key, part in one.items()
        if key != "_self_"
    ]  # fmt: skip
    values = [
        (key, _show(_value(cfg, key))) for key, place in places.items()
        if place == f"{group}/{choice}.yaml" and key not in ("defaults", *composition.groups())
    ]  # fmt: skip
    rows = [(key, value, f"{key}/{value}.yaml") for key, value in parts]
    lines += ["", *_aligned([*rows, *((key, value, "") for key, value in values)])]
    return "\n".join([*lines, "", _choices(group, config_dirs)])


def _values(name: str, node: DictConfig, places: dict[str, str]) -> list[str]:
    rows = []
    for leaf in composition.leaves(node, name):
        rows.append((leaf, _show(_value(node._get_root(), leaf)), places.get(leaf, "")))
    return _aligned(rows) if rows else [f"{name}: empty"]


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{a.ljust(wide[0])}  {b.ljust(wide[1])}  {c}".rstrip() for a, b, c in rows]


def _value(node: DictConfig, key: str) -> Any:
    """Return the value of a key, as it is written where it is missing or leads nowhere."""
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(node, parent) if parent else node
    if OmegaConf.is_missing(holder, name):
        return "???"
    try:
        return holder[name]
    except OmegaConfBaseException:
        return OmegaConf.to_container(holder, resolve=False)[name]


def _definition(node: DictConfig, *, brief: bool = False) -> list[str]:
    target = node.get("_target_")
    if not target:
        return []
    try:
        found = define(target)
    except NotFound:
        return ["", f"{target}: not found"]
    if brief:
        return [f"{target}: {found.docstring.strip().splitlines()[0] if found.docstring else ''}"]
    lines = ["", f"{target}("]
    for name, parameter in found.parameters.items():
        kind = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None else ""
        lines.append(f"    {name}{kind}{default},")
    lines += [")", "", *_indent(found.docstring.strip().splitlines())]
    return lines


def _parameter(
    cfg: DictConfig, parts: list[str], part: str, config_dirs: Sequence[str]
) -> str | None:
    """Explain a keyword that the config leaves to the signature's default."""
    node = OmegaConf.select(cfg, ".".join(parts)) if parts else None
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return None
    try:
        found = define(node["_target_"])
    except NotFound:
        return None
    if part not in found.parameters:
        return None
    parameter = found.parameters[part]
    lines = [
        f"{'.'.join([*parts, part])}: {parameter.default or 'given by the run'}",
        f"  set by the signature of {node['_target_']}",
        *_argument(found.docstring, part),
    ]
    return "\n".join(lines)


def _documented(parent: Any, parts: list[str], cfg: DictConfig) -> list[str]:
    if len(parts) == 1:
        return _argument(define("kerasft.config.schema.Root").docstring, parts[0])
    if isinstance(parent, DictConfig) and "_target_" in parent:
        try:
            return _argument(define(parent["_target_"]).docstring, parts[-1])
        except NotFound:
            return []
    return []


def _argument(docstring: str, name: str) -> list[str]:
    """Return what a docstring's Args section says of one argument."""
    lines = docstring.splitlines()
    for i, line in enumerate(lines):
        if line.strip().startswith(f"{name}:"):
            depth = len(line) - len(line.lstrip())
            taken = [line.strip()]
            for more in lines[i + 1:]:
                if not more.strip() or len(more) - len(more.lstrip()) <= depth:
                    break
                taken.append(more.strip())
            return ["", *taken]
    return []


def _show(value: object) -> str:
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value)
    return "null" if value is None else str(value)


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"  {line}".rstrip() for line in lines]
