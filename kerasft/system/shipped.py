"""The configs that kerasft ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from kerasft.errors import UserError


def shipped_dir() -> Path:
    """Return the folder of the shipped configs, in a checkout and in a wheel alike.

    Example:
        >>> (shipped_dir() / "train.yaml").is_file()
        True
    """
    for place in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise UserError(
        "The shipped configs were not found: neither 'kerasft/conf' nor 'conf' beside the package "
        "holds train.yaml. Reinstall kerasft."
    )


@cache
def shipped(group: str) -> tuple[str, ...]:
    """Return the names of the shipped configs of a group.

    Example:
        >>> "classification" in shipped("task")
        True
    """
    return tuple(sorted(file.stem for file in (shipped_dir() / group).glob("*.yaml")))
