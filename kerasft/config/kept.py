"""Compositions by Hydra, kept by what is chosen of each group: values are put into a copy.

Hydra builds its list of files anew for each composition, which takes most of its time, though the
list follows from the choices of groups alone. A command composes more than once, and a search does
so for each trial.
"""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kerasft.config.sources import stamp

# How many compositions are kept; each is some 100 kB.
MOST = 32
_kept: OrderedDict[Any, Any] = OrderedDict()


def composed(name: str, overrides: Sequence[str], places: Sequence[Path]) -> DictConfig:
    """Compose a config as `hydra.compose` does, within its state.

    Args:
        name: The config, e.g. "train".
        overrides: Hydra overrides.
        places: The folders that configs are read from.

    Returns:
        The config, which belongs to the caller.

    Raises:
        Exception: Whatever Hydra raises.
    """
    chosen, values = _parted(overrides, places)
    if values is None:
        return hydra_compose(name, overrides=list(overrides))
    cfg = copy.deepcopy(_of_choices(name, chosen, places)[0])
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    return cfg


def choices(name: str, overrides: Sequence[str], places: Sequence[Path]) -> dict[str, Any]:
    """Return what is chosen of each group; see `composed`."""
    chosen, _ = _parted(overrides, places)
    return dict(_of_choices(name, chosen, places)[1])


def _of_choices(
    name: str, chosen: Sequence[str], places: Sequence[Path]
) -> tuple[DictConfig, dict[str, Any]]:
    """Return the config of choices alone, and all choices that led to it."""
    return _once(name, chosen, places, lambda: _compose(name, chosen))


def _compose(name: str, chosen: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """Compose as Hydra does, but for its own node: half of its time goes there, to be taken out."""
    loader: Any = GlobalHydra.instance().config_loader()
    overrides, repo = loader._parse_overrides_and_create_caching_repo(name, list(chosen))
    loader.validate_sweep_overrides_legal(overrides, run_mode=RunMode.RUN, from_shell=False)
    listed = create_defaults_list(
        repo=repo, config_name=name, overrides_list=overrides, prepend_hydra=False,
        skip_missing=False,
    )
    cfg = loader._compose_config_from_defaults_list(defaults=listed.defaults, repo=repo)
    OmegaConf.set_struct(cfg, True)
    ours = [one for one in listed.config_overrides if not one.is_hydra_override()]
    loader._apply_overrides_to_config(ours, cfg)
    return cfg, dict(listed.overrides.known_choices)


def files_of_keys(
    overrides: Sequence[str], places: Sequence[Path],
    look: Callable[[Sequence[str]], dict[str, str]],
) -> dict[str, str]:
    """Return the file that says the value of each key, before any override of it.

    Args:
        overrides: Hydra overrides.
        places: The folders that configs are read from.
        look: Finds the files, by choices of groups alone.
    """
    chosen, _ = _parted(overrides, places)
    return dict(_once("files of keys", chosen, places, lambda: look(chosen)))


def _once(
    what: str, chosen: Sequence[str], places: Sequence[Path], make: Callable[[], Any]
) -> Any:
    """Return what was made of these choices before, while no file has changed, or make it."""
    key = (what, tuple(chosen), tuple(map(_stamp, places)))
    if key not in _kept:
        _kept[key] = make()
        while len(_kept) > MOST:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _parted(
    overrides: Sequence[str], places: Sequence[Path]
) -> tuple[list[str], list[Any] | None]:
    """Part overrides into choices of groups and values, by the rule of Hydra's defaults list.

    Returns:
        The choices as they were given, and the values as Hydra reads them; `None` for these where
        Hydra itself must look, as an override means several.
    """
    chosen: list[str] = []
    values: list[Any] = []
    several = False
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        several |= one.is_sweep_override()
        is_group = any((place / one.key_or_group).is_dir() for place in places)
        if one.key_or_group.partition(".")[0] == "hydra" or (
            is_group and not isinstance(one.value(), dict)
        ):
            chosen.append(str(one.input_line))
        else:
            values.append(one)
    return chosen, None if several else values


def _stamp(place: Path) -> tuple[Any, ...]:
    """Return what changes when a config below a folder does."""
    return str(place), tuple(sorted(_stamps(str(place))))


def _stamps(folder: str) -> Iterator[tuple[Any, ...]]:
    try:
        found = os.scandir(folder)
    except (FileNotFoundError, PermissionError):  # what cannot be read, Hydra will not read either
        return
    with found as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _stamps(entry.path)
            elif entry.name.endswith(".yaml"):
                yield stamp(entry)
