"""The typed root config, and all that kerasft asks of Hydra: compose, origins, build."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.config import auto_batch, kept, of_budgets, other_choices
from kerasft.config.bounds import require_bounded
from kerasft.config.building import as_config as as_config
from kerasft.config.building import build as build
from kerasft.config.building import build_named as build_named
from kerasft.config.building import plain as plain
from kerasft.config.hydra_errors import in_words
from kerasft.config.leads import space
from kerasft.config.moved import renew
from kerasft.config.replaced import let_go
from kerasft.config.schema import ALWAYS, RUNTIME, SCALARS, Root
from kerasft.config.sources import COPY, quick_lists, safe_sources
from kerasft.config.yaml_limits import require_small
from kerasft.errors import UserError
from kerasft.system.passwords import override_shown, text_without
from kerasft.system.shipped import shipped_dir

ConfigStore.instance().store(name="kerasft_root", node=Root)
# The group of searches, and the name of the config that a search is composed from.
SWEEP = "sweep"
# What of a command line is the search's.
SEARCH = (SWEEP, "launcher")


def config_dir() -> Path:
    """Return the folder that configs are composed from: the shipped one, or a copy of it."""
    return COPY.get() or shipped_dir()


@contextmanager
def copied_to(folder: Path) -> Iterator[None]:
    """Compose from a copy of the shipped configs, so that a change of theirs changes nothing."""
    token = COPY.set(folder.resolve())
    try:
        yield
    finally:
        COPY.reset(token)


@contextmanager
def _hydra() -> Iterator[None]:
    """Give Hydra its state for a while and put back what stood there before."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with safe_sources(), quick_lists(), \
                initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)


def _searchpath(config_dirs: Sequence[str | Path]) -> list[str]:
    found = []
    for place in config_dirs:
        if not Path(place).is_dir():
            raise UserError(
                f"--config-dir must name a folder of configs. Received: {str(place)!r}, which is "
                "no folder."
            )
        found.append(f"file://{Path(place).resolve()}")
    return [f"hydra.searchpath=[{','.join(found)}]"] if found else []


def options(group: str, config_dirs: Sequence[str | Path] = ()) -> list[str]:
    """Return the names that a config group offers, e.g. `options("head")`."""
    places = [Path(p) for p in (config_dir(), *config_dirs)]
    return sorted(
        {str(f.relative_to(p / group).with_suffix("")) for p in places
         for f in (p / group).rglob("*.yaml")}
    )


@lru_cache(maxsize=1)
def groups() -> tuple[str, ...]:
    """Return the groups that a run is composed of."""
    folders = (p.name for p in config_dir().iterdir() if p.is_dir())
    return tuple(sorted(name for name in folders if name not in SEARCH))


def _open(override: str) -> str:
    """Let `data.text=x` set a key that the YAML does not name; `check` knows which are real.

    A pattern of paths, `data.image=images/{id}.jpg` or `surgery.cut.layer=^block_1[0-2]$`, needs no
    quotes within those of the shell.
    """
    override = re.sub(
        r"^(surgery\.\w+\.(?:layers?|after)=)(?!null$|\$\{)([^'\"\[,][^'\",]*)$", r"\1'\2'",
        override,
    )
    override = re.sub(r"^(data\.image=)([^'\"]*\{[^'\"]*)$", r'\1"\2"', override)
    match = re.match(r"^([A-Za-z_]\w*)\.[^=]*=", override)
    return f"++{override}" if match and match[1] in RUNTIME else override


def compose(overrides: Sequence[str] = (), *, config_dirs: Sequence[str | Path] = ()) -> DictConfig:
    """Compose the config of a run.

    Args:
        overrides: Hydra overrides, as on the command line.
        config_dirs: Folders with configs of the user's own, searched too.

    Returns:
        The composed config, not yet checked.

    Raises:
        UserError: With every override and file that does not fit, not the first alone.

    Example:
        >>> compose(["head=mlp", "epochs=3"]).epochs
        3
    """
    extra = _searchpath(config_dirs)
    places = [config_dir(), *map(Path, config_dirs)]
    _refuse_hydra(overrides)
    with _hydra():
        try:
            def composed(of: Sequence[str]) -> DictConfig:
                return kept.composed("train", [*map(_open, of), *extra], places)

            def choices(of: Sequence[str]) -> dict[str, Any]:
                return kept.choices("train", [*map(_open, of), *extra], places)

            cfg = composed(overrides)
            require_bounded(cfg)
            renew(cfg)
            let_go(cfg, overrides, composed)
            other_choices.let_go(cfg, overrides, composed, choices)
            auto_batch.usual(cfg, overrides, composed)
            of_budgets.usual(cfg, overrides, composed)
            return cfg
        except UserError:  # a file or an interpolation that unfolds without end
            raise
        except Exception as error:
            problems = _each_alone(overrides, extra, config_dirs)
            raise UserError(
                problems=problems.values() or [
                    text_without(_in_words(error, None, config_dirs), overrides)],
                overrides=problems,
            ) from error


def compose_search(
    overrides: Sequence[str] = (), *, config_dirs: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """Compose what a sweep searches with, from overrides of `sweep` and of keys below it.

    Args:
        overrides: Hydra overrides.
        config_dirs: Folders with configs of the user's own, searched too.

    Returns:
        Plain values, not yet checked.

    Raises:
        UserError: With every override that does not fit.

    Example:
        >>> compose_search(["sweep=random", "sweep.n_trials=3"])["n_trials"]
        3
    """
    extra = _searchpath(config_dirs)
    places = [config_dir(), *map(Path, config_dirs)]
    with _hydra():
        try:
            cfg = kept.composed(SWEEP, [*overrides, *extra], places)
            require_bounded(cfg)
            return plain(cfg[SWEEP]) | {"launcher": plain(cfg["launcher"])}
        except UserError:
            raise
        except Exception as error:
            problems = {}
            for override in overrides:
                try:
                    kept.composed(SWEEP, [override, *extra], places)
                except Exception as alone:
                    problems[override] = in_words(
                        alone, override, keys=SEARCH,
                        choices=lambda group: (
                            options(group, config_dirs) if group in SEARCH else None
                        ),
                    )
            raise UserError(
                problems=problems.values() or [text_without(str(error), overrides)]
            ) from error


def _refuse_hydra(overrides: Sequence[str]) -> None:
    """Hydra's own settings would be taken and do nothing, or lead to configs elsewhere."""
    found = [o for o in overrides if re.match(r"^[+~]*hydra\b", o)]
    if found:
        raise UserError(problems=[
            f"Settings of Hydra itself are not taken. Received: {override_shown(override)}. For "
            "configs of your own use --config-dir, for the folder of a run output_dir=DIR."
            for override in found
        ])


def _each_alone(overrides, extra, config_dirs) -> dict[str, str]:
    """Find every override that fails, by composing with each alone beside the group choices.

    Returns:
        What is wrong, by override.
    """
    places = [config_dir(), *map(Path, config_dirs)]
    chosen = [o for o in overrides if re.match(r"^\+?[\w/]+=", o) and _is_group(o)]
    problems: dict[str, str] = {}
    alone = [[o] for o in chosen] + [[*chosen, o] for o in overrides if o not in chosen]
    for attempt in alone:
        attempt = [o for o in attempt if o not in problems]
        if not attempt:
            continue
        try:
            kept.composed("train", [*map(_open, attempt), *extra], places)
        except Exception as error:
            problems[attempt[-1]] = _in_words(error, attempt[-1], config_dirs)
    return problems


def _is_group(override: str) -> bool:
    return override.lstrip("+").split("=", 1)[0].split("/")[0].split("@")[0] in groups()


def _in_words(error: Exception, override: str | None, config_dirs: Sequence[str | Path]) -> str:
    return in_words(
        error, override, keys=[*SCALARS, *groups()],
        choices=lambda group: options(group, config_dirs) if group in groups() else None,
    )


def parsed(overrides: Sequence[str]) -> list[Any]:
    """Return overrides as Hydra reads them.

    Raises:
        UserError: If one of them cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        said = f"An override cannot be read: {str(error).splitlines()[0]}. It must read key=value."
        if meant := next(filter(None, map(space, overrides)), None):
            said += f" Did you mean '{meant}'?"
        raise UserError(text_without(said, overrides)) from error


def origins(
    overrides: Sequence[str] = (), *, config_dirs: Sequence[str | Path] = ()
) -> dict[str, str]:
    """Return which file or override set each key last, e.g. `{"head.dropout": "head/mlp.yaml"}`."""
    places = [config_dir(), *map(Path, config_dirs)]
    with _hydra():
        opened = [*map(_open, overrides), *_searchpath(config_dirs)]
        given = parsed(opened)
        found = kept.files_of_keys(opened, places, _files_of_keys)
        for override in given:
            is_hydras = override.key_or_group.split(".")[0] == "hydra"
            if not is_hydras and not _is_group(override.input_line):
                found[override.key_or_group] = f"command line: {override.input_line.lstrip('+')}"
    return found


def _files_of_keys(chosen: Sequence[str]) -> dict[str, str]:
    """Return which file set each key last, by choices of groups, within Hydra's state."""
    from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra._internal.defaults_list import create_defaults_list

    found: dict[str, str] = {}
    loader = GlobalHydra.instance().config_loader()
    given = parsed(chosen)
    search: list[str] = next((o.value() for o in given if o.key_or_group == "hydra.searchpath"), [])
    repo = CachingConfigRepository(loader.repository)
    if search:
        paths = ConfigSearchPathImpl()
        known = loader.config_search_path.get_path()
        # Hydra wants the schema last.
        for entry in (e for e in known if e.provider != "schema"):
            paths.append(entry.provider, entry.path)
        for place in search:
            paths.append("--config-dir", place)
        for entry in (e for e in known if e.provider == "schema"):
            paths.append(entry.provider, entry.path)
        repo = CachingConfigRepository(ConfigRepository(paths))
    listed = create_defaults_list(
        repo=repo, config_name="train", overrides_list=given, prepend_hydra=False,
        skip_missing=True,
    )
    for default in listed.defaults:
        result = loader._load_single_config(default, repo)
        if result.provider == "schema" or not default.config_path:
            continue
        if default.config_path == "kerasft_root":
            label = "built-in default"
        else:
            label = f"{default.config_path}.yaml"
        for key in leaves(result.config):
            found[key] = label
    return found


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every leaf of a config."""
    for key in node:
        path = f"{prefix}.{key}" if prefix else str(key)
        value = node._get_node(key)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing() \
                and len(value):
            yield from leaves(value, path)
        else:
            yield path


def to_yaml(cfg: DictConfig) -> str:
    """Return the config as YAML, with every interpolation resolved."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def load(path: str | Path) -> DictConfig:
    """Read a config that a run wrote, typed as when it was composed.

    A group that came into being since the run was made has its default, and parts that have moved
    since have the paths of today.
    """
    require_small(path)
    try:
        written = OmegaConf.load(path)
        cfg = OmegaConf.merge(OmegaConf.structured(Root), written)
    except (
        OSError, ValueError, OverflowError, RecursionError, YAMLError, OmegaConfBaseException,
    ) as error:
        deep = isinstance(error, RecursionError)
        reason = "it is nested too deeply" if deep else str(error).splitlines()[0]
        raise UserError(
            f"The config {str(path)!r} cannot be read: {reason}. It is damaged, or from another "
            "version of kerasft."
        ) from error
    if lacks := [key for key in ALWAYS if key not in written]:
        raise UserError(
            f"The config {str(path)!r} lacks {', '.join(lacks)}. It is damaged, or from another "
            "version of kerasft."
        )
    if missing := [key for key in RUNTIME if key not in written]:
        usual = compose()
        for key in missing:
            OmegaConf.update(cfg, key, usual[key], force_add=True)
    require_bounded(cfg)
    renew(cfg)
    return cfg
