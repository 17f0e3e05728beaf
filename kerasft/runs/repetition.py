"""Repeats a run: its config, with paths that are found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.config import auto_batch
from kerasft.config.schema import RUNTIME
from kerasft.errors import UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.system.files import at_home, current
from kerasft.system.folders import folders_of, looked_up_in


@contextmanager
def repeating(run: str | None) -> Iterator[None]:
    """Look relative paths up here, and where a run was started, while the block repeats it.

    Args:
        run: The run folder; `None` where nothing is repeated.
    """
    folder = None if run is None else RunFolder(at_home(run))
    folders = [] if folder is None else folders_of(folder.facts(), folder.path)
    here = current()
    with looked_up_in([*([here] if here else []), *folders]):
        yield


@contextmanager
def of_run_or_overrides(words: Sequence[str]) -> Iterator[Any]:
    """Yield the config of a run where the first word is its folder, else the words as they are.

    Args:
        words: Overrides; or a run folder, and overrides to change its config by.

    Raises:
        UserError: If the folder is no run, or an override cannot be set.
    """
    if not words or "=" in words[0] or not at_home(words[0]).is_dir():
        yield words
        return
    run, *overrides = words
    with repeating(run):
        yield recorded_config(run, overrides, where=f"Behind the run {run!r}")


def recorded_config(
    run: str, overrides: Sequence[str] = (), *, where: str = "With --from"
) -> DictConfig:
    """Return the config of a run, to repeat it in a new folder.

    Args:
        run: The run folder.
        overrides: Plain `key=value` overrides to change it by.
        where: Where they stand, for messages.

    Returns:
        The config.

    Raises:
        UserError: If the folder is no run, or an override cannot be set.
    """
    cfg = RunFolder(at_home(run)).read_config()
    cfg.output_dir = None
    for key in ("resume", "max_time", "budget"):  # of that process
        OmegaConf.update(cfg, key, None, force_add=True)
    problems, recorded = [], cfg.copy()
    for override in overrides:
        key, mark, value = override.lstrip("+").partition("=")
        if not mark or not all(key.split(".")):
            problems.append(
                f"{where}, overrides must read key=value, with a name on each side of a dot, "
                f"such as data.path=b.csv. Received: {override!r}. To choose other parts, train "
                "with the whole command again."
            )
            continue
        if "." not in key and key in RUNTIME:
            problems.append(
                f"{where}, {key} keeps its part; only its values can be set, such as "
                f"{key}.NAME=VALUE. Received: {override!r}."
            )
            continue
        try:
            parsed = OmegaConf.create(f"value: {value}")["value"]
            OmegaConf.update(cfg, key, parsed, force_add="." in key)
        except (OmegaConfBaseException, YAMLError) as error:
            problems.append(f"{key} cannot be set: {str(error).splitlines()[0]}.")
    if problems:
        raise UserError(problems=problems)
    auto_batch.usual(cfg, overrides, lambda others: recorded)
    return cfg
