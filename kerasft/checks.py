"""Checks a composed config before anything is read, downloaded or imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.config import (
    BASELINES,
    NAMED,
    PRECISIONS,
    RUNTIME,
    SCALARS,
    compose,
    groups,
    options,
    origins,
)
from kerasft.errors import UserError, nearest
from kerasft.signatures import Definition, NotFound, Parameter, define

# What a config may call. `keras` as a whole would let a config load files and run code.
TRUSTED = (
    "kerasft.data", "kerasft.tasks", "kerasft.model", "kerasft.training", "kerasft.exporters",
    "keras.callbacks", "keras.constraints", "keras.initializers", "keras.layers", "keras.losses",
    "keras.metrics", "keras.optimizers", "keras.random", "keras.regularizers",
    "keras_hub.layers", "keras_hub.metrics", "keras_hub.samplers",
)
# These live under a trusted prefix, but run code or read graphs that they are given.
REFUSED = {
    "keras.layers.Lambda": "it runs arbitrary Python code",
    "keras.layers.TFSMLayer": "it runs an arbitrary graph",
    "keras.layers.TorchModuleWrapper": "it runs arbitrary modules",
    "keras.layers.JaxLayer": "it runs arbitrary functions",
    "keras.layers.FlaxLayer": "it runs arbitrary modules",
    "keras.callbacks.LambdaCallback": "it runs arbitrary Python code",
    "keras.callbacks.RemoteMonitor": "it sends logs over the network",
}
OWN_WORDS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

_TYPES: dict[str, Any] = {
    "int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None),
}  # fmt: skip
_WORDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "None": "null",
}  # fmt: skip


def check(
    cfg: DictConfig,
    *,
    trusted: Sequence[str] = (),
    origin: Callable[[str], str] | None = None,
) -> None:
    """Check a composed config and report everything that is wrong with it at once.

    Args:
        cfg: The composed config.
        trusted: Further import prefixes that a `_target_` may start with. They never come from a
            config file: whoever writes the file would be trusting himself.
        origin: Names the file or override that set a key, for messages.

    Raises:
        UserError: With one message for each problem.

    Example:
        >>> check(compose(["head=mlp"]))
    """
    places = origin or (lambda key: "")
    if gone := [key for key in (*SCALARS, *RUNTIME) if key not in cfg]:
        raise UserError(
            problems=[f"{key} cannot be taken out of the config: it must have a value, or null "
                      "where that is allowed." for key in gone]
        )
    problems = dict(_unresolved(cfg))
    # What has no value cannot be held against a signature; the rest still can.
    rest = _without(cfg, problems)
    for key, text in [*_ranges(rest), *_nodes(rest, tuple(trusted))]:
        problems.setdefault(key, text)
    if problems:
        raise UserError(
            problems=[_with_origin(key, text, places) for key, text in problems.items()]
        )


def _without(cfg: DictConfig, keys: Iterable[str]) -> DictConfig:
    rest = cfg.copy()
    OmegaConf.set_struct(rest, False)
    for key in keys:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(rest, parent) if parent else rest
        if isinstance(node, DictConfig) and name in list(node.keys()):
            node.__delitem__(name)
    return rest


def settle(cfg: Any, config_dirs: Sequence[str], trusted: Sequence[str]) -> DictConfig:
    """Compose overrides, and check the config as a whole."""
    origin = None
    if not isinstance(cfg, DictConfig):
        overrides = list(cfg)
        try:
            cfg = compose(overrides, config_dirs=config_dirs)
        except UserError as error:
            further = _of_the_rest(overrides, error.overrides, config_dirs, trusted)
            raise UserError(
                problems=[*error.problems, *further], overrides=error.overrides
            ) from error
        origin = Origins(overrides, config_dirs)
    else:
        cfg = cfg.copy()
    check(cfg, trusted=trusted, origin=origin)
    return cfg


def _of_the_rest(
    overrides: Sequence[str], broken: Sequence[str], config_dirs: Sequence[str],
    trusted: Sequence[str],
) -> Sequence[str]:
    """Check what is left without the overrides that cannot be composed.

    What hangs on a broken choice (`head.depth` on `head=mpl`) is left out too: held against the
    default choice, it would be blamed for nothing.
    """
    groups_at_fault = {re.split(r"[=.@]", override.lstrip("+~"))[0] for override in broken}
    if not broken or groups_at_fault & {"experiment", "debug"}:
        return ()
    rest = [o for o in overrides
            if re.split(r"[=.@]", o.lstrip("+~"))[0] not in groups_at_fault]
    try:
        settle(rest, config_dirs, trusted)
    except UserError as error:
        return error.problems
    return ()


class Origins:
    """Names what set a key; looked up only when there is a problem to explain."""

    def __init__(self, overrides: Sequence[str], config_dirs: Sequence[str]):
        self.overrides, self.config_dirs = overrides, config_dirs
        self.found: dict[str, str] | None = None

    def __call__(self, key: str) -> str:
        if self.found is None:
            self.found = origins(self.overrides, config_dirs=self.config_dirs)
        below = [place for name, place in self.found.items() if name.startswith(f"{key}.")]
        return self.found.get(key, below[0] if below else "")


def _with_origin(key: str, text: str, origin: Callable[[str], str]) -> str:
    place = origin(key)
    return f"{text} (set by {place})" if place else text


def _unresolved(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield every `???` that nobody filled and every interpolation that leads nowhere."""
    for prefix, node in _walk(cfg):
        for name in _keys(node):
            key = f"{prefix}.{name}".lstrip(".")
            if OmegaConf.is_interpolation(node, name):
                try:
                    node[name]
                except OmegaConfBaseException as error:
                    text = str(error).splitlines()[0]
                    text = text.removeprefix("KeyError raised while resolving interpolation: ")
                    yield key, f"{key}: {text.strip(chr(34))}. Set it, or set {key} yourself."
            elif OmegaConf.is_missing(node, name):
                yield key, f"{key} has no value. Set it: {key}=..."


def _keys(node: DictConfig | ListConfig) -> list[Any]:
    return list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))


def _walk(node: Any, prefix: str = "") -> Iterator[tuple[str, DictConfig | ListConfig]]:
    yield prefix, node
    for key in _keys(node):
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig) and not child._is_none() \
                and not child._is_missing() and not child._is_interpolation():
            yield from _walk(child, f"{prefix}.{key}" if prefix else str(key))


def _ranges(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    known = [*SCALARS, *RUNTIME]
    for key in cfg:  # `++key=value` adds what a typed root would refuse
        if key not in known:
            yield key, (
                f"There is no key {key!r}. Allowed: {', '.join(known)}.{nearest(key, known)}"
            )
    rate = OmegaConf.select(cfg, "optimizer.learning_rate", throw_on_missing=False)
    if rate is not None and not (_is_number(rate) and rate > 0):
        yield "optimizer.learning_rate", (
            "optimizer.learning_rate must be a number above 0, or null for the backbone's usual "
            f"one; schedule=NAME chooses how it changes. Received: {_short(rate)}."
        )
    for key in ("epochs", "batch_size", "eval_batch_size", "max_steps"):
        if cfg[key] is not None and cfg[key] < 1:
            yield key, f"{key} must be at least 1. Received: {cfg[key]}."
    yield from _names(cfg)
    if cfg.precision not in PRECISIONS:
        yield "precision", (
            f"precision must be one of {', '.join(PRECISIONS)}. Received: {cfg.precision!r}."
            + nearest(cfg.precision, PRECISIONS)
        )
    if cfg.baseline not in BASELINES:
        yield "baseline", f"baseline must be null or 'scratch'. Received: {cfg.baseline!r}."
    if cfg.seed < 0:
        yield "seed", f"seed must not be negative. Received: {cfg.seed}."
    if not re.fullmatch(r"\w[\w.-]*", cfg.name):
        yield "name", (
            "name becomes a folder's name: letters, digits, '_', '-' and '.', a letter first. "
            f"Received: {cfg.name!r}."
        )


def _names(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield names of pretrained networks that nobody has heard of."""
    backbone = cfg.backbone if isinstance(cfg.backbone, DictConfig) else OmegaConf.create()
    for key, target, kept in (
        ("preset", "kerasft.model.backbones.preset", _is_no_bare_name),
        ("name", "kerasft.model.backbones.applications", lambda name: False),
    ):
        name = OmegaConf.select(backbone, key, throw_on_missing=False)
        if backbone.get("_target_") != target or not isinstance(name, str) or kept(name):
            continue
        from kerasft.model import catalogue

        known = catalogue.preset_names() if key == "preset" else tuple(catalogue.APPLICATIONS)
        if name not in known:
            where = "KerasHub" if key == "preset" else "keras.applications"
            pattern = "bert" if key == "preset" else "mobilenet"
            yield f"backbone.{key}", (
                f"backbone.{key}: {where} has no {name!r}"
                f"{', and there is no such folder' if key == 'preset' else ''}. "
                f"`kerasft models {pattern}` lists what there is. Received: {name!r}."
                f"{nearest(name, known)}"
            )


def _is_no_bare_name(name: str) -> bool:
    """Whether a preset is a handle or a folder: what is behind those, only reading them tells."""
    return not re.fullmatch(r"[\w.-]+", name) or Path(name).is_dir()


def _nodes(cfg: DictConfig, trusted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for group, injected in RUNTIME.items():
        node = cfg[group]
        if group in NAMED:
            if node is None:
                continue
            if not isinstance(node, DictConfig):
                yield group, f"{group} must be a mapping of named nodes. Received: {node!r}."
                continue
            for name, step in node.items():
                if step is not None:  # null switches a step off
                    yield from _node(f"{group}.{name}", step, injected, trusted)
            if group == "finetune" and not any(step is not None for step in node.values()):
                yield group, f"finetune needs a stage. Choose one of {', '.join(options(group))}."
        elif node is None or (isinstance(node, DictConfig) and not node):
            choice = ", ".join(options(group)) if group in groups() else ""
            yield group, f"{group} must be chosen. Allowed: {choice}. Received: nothing."
        else:
            yield from _node(group, node, injected, trusted)


def _node(
    key: str, node: Any, injected: frozenset[str], trusted: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one node and the nodes inside it."""
    if not isinstance(node, DictConfig):
        yield key, f"{key} must be a mapping with a `_target_`. Received: {node!r}."
        return
    if "_target_" not in node:
        group = key.split(".")[0]
        yield key, (
            f"{key} has no `_target_`: no part is chosen there. Received: {_short(node)}. "
            f"Choose {group}=NAME first (one of {', '.join(options(group))}), or give a _target_."
        )
        return
    target = node["_target_"]
    allowed = (*TRUSTED, *trusted)
    if refusal := _untrusted(target, allowed):
        yield f"{key}._target_", f"{key}._target_ is refused: {refusal}. Received: {target!r}."
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
    if not _stays_inside(target, found, allowed):
        yield f"{key}._target_", (
            f"{key}._target_ is refused: it leads through an imported name to {found.module!r}, "
            f"outside of what is trusted. Received: {target!r}."
        )
        return
    yield from _keywords(key, node, found, injected)
    for name, child in node.items():
        if isinstance(child, DictConfig) and "_target_" in child:
            yield from _node(f"{key}.{name}", child, frozenset(), trusted)
        elif isinstance(child, DictConfig | ListConfig):
            for place, inner in _walk(child, f"{key}.{name}"):
                if isinstance(inner, DictConfig) and "_target_" in inner:
                    yield from _node(place, inner, frozenset(), trusted)


def _untrusted(target: Any, allowed: tuple[str, ...]) -> str | None:
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target):
        return "it must be an import path such as keras.optimizers.AdamW"
    if target in REFUSED:
        return REFUSED[target]
    if target.rpartition(".")[2] in ("deserialize", "get"):
        return "it builds whatever it is told to"
    if any(part.startswith("_") for part in target.split(".")):
        return "names that start with an underscore are private"
    if not any(target.startswith(f"{prefix}.") for prefix in allowed):
        return (
            f"it must start with one of {', '.join(allowed)}, or with a prefix that you trust "
            "with --trust PREFIX"
        )
    return None


def _stays_inside(target: str, found: Definition, allowed: tuple[str, ...]) -> bool:
    """Whether a target is what its prefix promises, and not something that a module imports.

    `kerasft.training.callbacks.keras.saving.load_model` begins well, too.
    """
    package = target.split(".")[0]
    if package in ("keras", "keras_hub"):  # their public names lead to private modules
        return found.direct and found.module.split(".")[0] == package
    return found.direct and any(f"{found.module}.".startswith(f"{p}.") for p in allowed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _keywords(
    key: str, node: DictConfig, found: Definition, injected: frozenset[str]
) -> Iterator[tuple[str, str]]:
    given = [name for name in node if name not in OWN_WORDS]
    values = {name: OmegaConf.select(node, name, throw_on_missing=False) for name in given}
    public = [
        n for n, p in found.parameters.items() if p.keyword and not (p.required and n in injected)
    ]
    for name in given:
        if name not in found.parameters:
            if not found.open:
                yield f"{key}.{name}", (
                    f"{key}.{name} is unknown to {node['_target_']}. "
                    f"Allowed: {', '.join(public)}. Received: {name}={_short(values[name])}."
                    f"{nearest(name, public)}"
                )
        elif values[name] is not None and (
            problem := _mismatch(values[name], found.parameters[name])
        ):
            yield f"{key}.{name}", (
                f"{key}.{name} must be {' or '.join(problem)}. Received: {_short(values[name])}."
                + nearest(str(values[name]), [word.strip("'") for word in problem])
            )
    if node.get("_partial_") or "_args_" in node:
        return
    for name, parameter in found.parameters.items():
        if parameter.required and name not in given and name not in injected:
            yield f"{key}.{name}", f"{key}.{name} has no value. Set it: {key}.{name}=..."


def _mismatch(value: Any, parameter: Parameter) -> list[str]:
    """Hold a plain value against a plain annotation; anything richer is left to the call.

    Returns:
        What is allowed, where the value is not.
    """
    if isinstance(value, DictConfig):
        return []
    if parameter.annotation is None:
        # Keras annotates nothing, but its defaults tell.
        is_float = re.fullmatch(r"-?\d*\.\d*(e-?\d+)?|-?\d+e-?\d+", parameter.default or "")
        return ["a number"] if is_float and isinstance(value, str | bool) else []
    words: list[str] = []
    for part in parameter.annotation.strip("'\"").split("|"):
        part = part.strip()
        if part.startswith("Literal["):
            literal = ast.literal_eval(f"({part[8:-1]},)")
            if value in literal:
                return []
            words += map(repr, literal)
        elif part in _TYPES:
            if isinstance(value, _TYPES[part]) and (part == "bool" or not isinstance(value, bool)):
                return []
            words.append(_WORDS[part])
        elif part.startswith(("Sequence[", "list[", "tuple[")):
            if isinstance(value, ListConfig):
                return []
            words.append("a list")
        else:
            return []
    return words


def _short(value: Any) -> str:
    text = str(OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig)
               else repr(value) if isinstance(value, str) else value)
    return text if len(text) < 80 else text[:77] + "..."
