"""A run on data that Python hands over: its config, and the data while it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig

from kerasft.config.composition import origins
from kerasft.data.given import NOT_GIVEN, given
from kerasft.errors import UserError
from kerasft.runs.again import reads_memory


def reading(config: Any, data: Any, config_dirs: Sequence[str] = ()) -> Any:
    """Return a config that reads the data that is given.

    Args:
        config: Overrides, or a composed config.
        data: The data; `None` for none.
        config_dirs: Folders with configs of the user's own.

    Returns:
        The config; of overrides with `data=memory`, and without the files and columns that an
        experiment names for its own data.

    Raises:
        UserError: If the overrides choose another source.
    """
    if data is None or isinstance(config, DictConfig):
        return config
    overrides = list(config)
    other = [one for one in overrides if re.match(r"\+?data=(?!memory$)", one)]
    if other:
        raise UserError(
            "data=... in Python hands the examples over, and the overrides choose another source "
            f"of them. Received: {other[0]}. Leave one of the two out."
        )
    chosen = [one for one in overrides if not re.match(r"\+?data=", one)]
    own = {re.split("[=]", one.lstrip("+~"))[0] for one in chosen}
    try:
        found = origins([*chosen, "data=memory"], config_dirs=config_dirs)
    except Exception:  # `check` tells what is wrong with the overrides
        found = {}
    unwanted = dict.fromkeys(
        ".".join(key.split(".")[:2]) for key, file in found.items()
        if key.startswith("data.") and file.startswith(("experiment/", "debug/"))
    )  # fmt: skip
    return [*chosen, "data=memory", *(f"~{key}" for key in unwanted if key not in own)]


@contextmanager
def holding(cfg: DictConfig, data: Any) -> Iterator[None]:
    """Hand data over to the source of a config while the block runs.

    Args:
        cfg: The config.
        data: The data; `None` for none.

    Raises:
        UserError: If the config reads such data and none is given, or the other way round.
    """
    if data is None and reads_memory(cfg):
        raise UserError(NOT_GIVEN)
    if data is not None and not reads_memory(cfg):
        raise UserError(
            "data=... is for a run that reads what Python hands over (data=memory), and this "
            f"config reads its data itself. Received: data._target_={cfg.data.get('_target_')}. "
            "Leave data=... out."
        )
    with given(data):
        yield
