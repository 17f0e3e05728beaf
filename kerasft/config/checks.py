"""Checks a composed config before anything is read, downloaded or imported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.catalogue import heads, networks
from kerasft.catalogue.stages import train_problem
from kerasft.config import (
    adapters,
    auto_batch,
    averages,
    budgets,
    computing,
    distribution,
    regularizers,
    write_paths,
)
from kerasft.config.bounds import MOST, numbers, require_bounded
from kerasft.config.composition import compose, groups, options, origins
from kerasft.config.hydra_errors import LONGEST
from kerasft.config.nodes import STAGE, named_nodes
from kerasft.config.schema import (
    BASELINES,
    FLOORS,
    NAMED,
    OF_ALL,
    PRECISIONS,
    RUNTIME,
    SCALARS,
)
from kerasft.config.targets import below, is_trusted, keys, part_problems, short, walk
from kerasft.errors import UserError, nearest
from kerasft.system.recorded import is_number


def check(
    cfg: DictConfig,
    *,
    trusted: Sequence[str] = (),
    origin: Callable[[str], str] | None = None,
) -> None:
    """Check what a config says by itself; `kerasft.run.check` also asks its task."""
    places = origin or (lambda key: "")
    # Not `in`, which follows interpolations.
    if gone := [key for key in (*SCALARS, *RUNTIME) if key not in keys(cfg)]:
        raise UserError(
            problems=[f"{key} cannot be taken out of the config: it must have a value, or null "
                      "where that is allowed." for key in gone]
        )
    require_bounded(cfg)
    problems = dict(_unresolved(cfg))
    if without := [key for key in problems if key in SCALARS]:
        # Nothing else can be said of a config whose own scalars have no value.
        raise UserError(problems=[_with_origin(key, problems[key], places) for key in without])
    # What has no value cannot be held against a signature; the rest still can.
    values = OmegaConf.to_container(_without(cfg, problems) if problems else cfg, resolve=True)
    problems |= dict(alive(values)) | dict(numbers(values))
    if any(key in MOST for key in problems):  # too large to be compared with anything
        raise UserError(
            problems=[_with_origin(key, text, places) for key, text in problems.items()]
        )
    # Checked as it will be called: an interpolation could make a node that none has looked at.
    rest = OmegaConf.create(values)
    may_write = {target for target in write_paths.WRITING if is_trusted(target, trusted)}
    write_paths.free(may_write)
    out_of_run = write_paths.problems(values, values["output_dir"], may_write)
    for key, text in [*_ranges(rest), *out_of_run, *_nodes(rest, tuple(trusted))]:
        problems.setdefault(key, text)
    if problems:
        raise UserError(
            problems=[_with_origin(key, text, places) for key, text in problems.items()]
        )


def _without(cfg: DictConfig, without: Iterable[str]) -> DictConfig:
    rest = cfg.copy()
    OmegaConf.set_struct(rest, False)
    unwanted = set(without)
    for prefix, node in list(walk(rest)):
        for name in [n for n in keys(node) if below(prefix, n) in unwanted]:
            if isinstance(node, DictConfig):
                node.__delitem__(name)
            else:  # the others keep their places
                node[name] = None
    return rest


def settle(cfg: DictConfig, config_dirs: Sequence[str], trusted: Sequence[str]) -> DictConfig:
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
    if not broken or groups_at_fault & set(OF_ALL):
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
    if len(place) > LONGEST:
        place = f"{place[:LONGEST - 3]}..."
    return f"{text} (set by {place})" if place else text


def _unresolved(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield every `???` that nobody filled and every interpolation that leads nowhere."""
    for prefix, node in walk(cfg):
        for name in keys(node):
            key = below(prefix, name)
            if OmegaConf.is_interpolation(node, name):
                try:
                    node[name]
                except OmegaConfBaseException as error:
                    text = str(error).splitlines()[0]
                    text = text.removeprefix("KeyError raised while resolving interpolation: ")
                    yield key, f"{key}: {text.strip(chr(34))}. Set it, or set {key} yourself."
            elif OmegaConf.is_missing(node, name):
                yield key, f"{key} has no value. Set it: {key}=..."


def alive(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key of every text that would be an interpolation the next time, and why not."""
    if isinstance(value, str) and "${" in value:
        yield key, (
            f"{key} may not hold '${{' once its interpolations are resolved. Received: "
            f"{short(value)}."
        )
    elif isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from alive(inner, below(key, name))


def _ranges(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    known = [*SCALARS, *RUNTIME]
    for key in cfg:  # `++key=value` adds what a typed root would refuse
        if key not in known:
            yield key, (
                f"There is no key {key!r}. Allowed: {', '.join(known)}.{nearest(key, known)}"
            )
    rate = _value(cfg, "optimizer", "learning_rate")
    if rate is not None and not (is_number(rate) and 0 < rate < math.inf):
        yield "optimizer.learning_rate", (
            "optimizer.learning_rate must be a number above 0, or null for the backbone's usual "
            f"one; schedule=NAME chooses how it changes. Received: {short(rate)}."
        )
    for name in ("image_size", "sequence_length"):
        size, key = _value(cfg, "backbone", name), f"backbone.{name}"
        if is_number(size) and size < 1:
            yield key, f"{key} must be at least 1. Received: {short(size)}."
    for key in ("epochs", "batch_tokens", "eval_batch_size", "max_steps"):
        if cfg[key] is not None and cfg[key] < 1:
            yield key, f"{key} must be at least 1. Received: {short(cfg[key])}."
    if cfg.batch_tokens is not None and not cfg.length_grouping:
        yield "batch_tokens", (
            "batch_tokens groups texts by their length. Set length_grouping=true, or batch_size "
            f"alone. Received: batch_tokens={cfg.batch_tokens}, length_grouping=false."
        )
    yield from _names(cfg)
    yield from _head(cfg)
    yield from _stages(cfg)
    yield from adapters.problems(cfg)
    yield from averages.problems(cfg)
    yield from regularizers.problems(cfg)
    yield from auto_batch.problems(cfg)
    yield from distribution.problems(cfg)
    yield from computing.problems(cfg)
    callbacks = cfg.callbacks if isinstance(cfg.callbacks, DictConfig) else {}
    for name, node in (callbacks or {}).items():
        if isinstance(node, DictConfig) and str(node.get("_target_")).endswith("BackupAndRestore"):
            yield f"callbacks.{name}._target_", (
                f"callbacks.{name}: every run can go on where it was (`kerasft resume`), and "
                "BackupAndRestore would set its weights and epochs back. Take it out: "
                f"~callbacks.{name}. How often checkpoints are written: checkpoint.minutes, "
                "checkpoint.steps."
            )
    if cfg.precision not in PRECISIONS:
        yield "precision", (
            f"precision must be one of {', '.join(PRECISIONS)}. Received: {cfg.precision!r}."
            + nearest(cfg.precision, PRECISIONS)
        )
    if cfg.baseline not in BASELINES:
        yield "baseline", f"baseline must be null or 'scratch'. Received: {cfg.baseline!r}."
    if cfg.floor not in FLOORS:
        yield "floor", (
            f"floor must be one of {', '.join(FLOORS)}. Received: {cfg.floor!r}."
            + nearest(cfg.floor, FLOORS)
        )
    if cfg.resume not in (None, "auto", "accept"):
        yield "resume", f"resume must be null, 'auto' or 'accept'. Received: {cfg.resume!r}."
    if cfg.resume and cfg.output_dir is None:
        yield "resume", (
            f"resume={cfg.resume} finds the run that it goes on with by its folder: set output_dir."
        )
    if cfg.max_time is not None and not cfg.max_time > 0:
        yield "max_time", f"max_time is in minutes and must be above 0. Received: {cfg.max_time}."
    if problem := budgets.problem(cfg.budget):
        yield "budget", problem
    if cfg.training_sample < 0:
        yield "training_sample", (
            "training_sample is how many training examples are measured again at the end, 0 for "
            f"none. Received: {short(cfg.training_sample)}."
        )
    yield from _slices(cfg.slices)
    if cfg.seed < 0:
        yield "seed", f"seed must not be negative. Received: {short(cfg.seed)}."
    if not re.fullmatch(r"\w[\w.-]{0,99}", cfg.name):
        yield "name", (
            "name becomes a folder's name: at most 100 letters, digits, '_', '-' and '.', a letter "
            f"first. Received: {short(cfg.name)}."
        )


def _slices(value: object) -> Iterator[tuple[str, str]]:
    listed = value if isinstance(value, ListConfig) else [] if value is None else [value]
    for one in listed:
        if isinstance(one, float) or not isinstance(one, str | int) or not str(one).strip():
            yield "slices", (
                "slices must name columns of the data, such as slices=[language,source]. "
                f"Received: {short(one)}."
            )


def _value(cfg: DictConfig, group: str, key: str) -> Any:
    """Return a value of a group's node, `None` where there is no such node or value."""
    node = cfg.get(group)
    return node.get(key) if isinstance(node, DictConfig) else None


def _head(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield what a head of ours would refuse, but only when the data is read."""
    if not str(_value(cfg, "head", "_target_")).startswith("kerasft.model.heads.pooled."):
        return
    for key, text in heads.problems(cfg.head):
        yield f"head.{key}", text


def _stages(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield what a stage of ours would refuse, but only when the data is read."""
    for name, stage in named_nodes(cfg, "finetune").items():
        if stage.get("_target_") == STAGE and (
            problem := train_problem(stage.get("train", "all"), name)
        ):
            yield f"finetune.{name}.train", problem


def _names(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the name of a pretrained network that nobody has heard of."""
    for target, key, unknown in (
        ("preset", "preset", networks.unknown_preset),
        ("applications", "name", networks.unknown_application),
    ):
        if _value(cfg, "backbone", "_target_") != f"kerasft.model.backbones.{target}":
            continue
        name = _value(cfg, "backbone", key)
        if isinstance(name, str) and (problem := unknown(name)):
            yield f"backbone.{key}", problem


def _nodes(cfg: DictConfig, trusted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for group, injected in RUNTIME.items():
        if group not in cfg:  # it has no value, which was told already
            continue
        node = cfg[group]
        if group in NAMED:
            if node is None:
                continue
            if not isinstance(node, DictConfig):
                yield group, f"{group} must be a mapping of named nodes. Received: {node!r}."
                continue
            if "_target_" in node:
                yield f"{group}._target_", (
                    f"{group} holds parts by name, and has no `_target_` of its own. Received: "
                    f"{short(node['_target_'])}. Name it: "
                    f"+{group}.NAME._target_={node['_target_']}"
                )
            for name, step in node.items():
                if name == "_target_":
                    continue
                if step is not None:  # null switches a step off
                    yield from part_problems(f"{group}.{name}", step, injected, trusted)
            if group == "finetune" and not any(step is not None for step in node.values()):
                yield group, f"finetune needs a stage. Choose one of {', '.join(options(group))}."
        elif node is None or (isinstance(node, DictConfig) and not node):
            choice = ", ".join(options(group)) if group in groups() else ""
            yield group, f"{group} must be chosen. Allowed: {choice}. Received: nothing."
        else:
            yield from part_problems(group, node, injected, trusted)
