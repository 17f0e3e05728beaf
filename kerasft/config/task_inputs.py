"""Which networks a task is for: what its class says of itself, read without importing it.

A class may say `modalities: ClassVar[...] = ("text",)`, what its examples are, and
`left_to_right: ClassVar[bool] = True`, that it is of networks alone that read in this direction.
What says nothing is for all networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kerasft.catalogue import networks
from kerasft.catalogue.networks import Takes
from kerasft.config.composition import config_dir, options
from kerasft.config.parameters import NotFound, constants
from kerasft.config.yaml_limits import require_small


def models(
    pattern: str = "", *, config_dirs: Sequence[str | Path] = ()
) -> list[dict[str, Any]]:
    """List the pretrained networks that can be fine-tuned, without a network and TensorFlow.

    Args:
        pattern: A part of the name, family or description to look for.
        config_dirs: Folders with configs of your own, whose tasks are named too.

    Returns:
        One dict each: `name`, `family`, `source`, `input`, `parameters`, `memory` (the bytes that
        training takes at least), `download` (bytes, `None` where only the network tells),
        `left_to_right`, `tasks`, `suggested` and `why` (see `kerasft.catalogue.suggested`),
        `cached`, and `choose`, the overrides that choose it.

    Raises:
        UserError: If the YAML of a task is too large.

    Example:
        >>> models("glyphs")[0]["cached"]
        True
    """
    return networks.models(pattern, tasks_of(config_dirs))


def tasks_of(config_dirs: Sequence[str | Path] = ()) -> dict[str, Takes]:
    """Return which networks each task of the group `task` is for.

    Args:
        config_dirs: Folders with configs of the user's own.

    Example:
        >>> tasks_of()["tagging"].modalities
        ('text',)
    """
    import yaml

    found = {}
    for name in options("task", config_dirs):
        files = (Path(p) / "task" / f"{name}.yaml" for p in (config_dir(), *config_dirs))
        file = next(file for file in files if file.is_file())
        require_small(file)
        node = None
        with suppress(OSError, ValueError, yaml.YAMLError):
            node = yaml.safe_load(file.read_text("utf-8"))
        found[name] = takes_of(node.get("_target_") if isinstance(node, dict) else None)
    return found


def takes_of(target: object) -> Takes:
    """Return which networks a task is for.

    Args:
        target: The import path of its class.

    Example:
        >>> takes_of("kerasft.tasks.causal_lm.CausalLM").left_to_right
        True
    """
    said: dict[str, Any] = {}
    with suppress(NotFound, ImportError, OSError, SyntaxError, ValueError):
        said = constants(str(target))
    modalities = said.get("modalities", ())
    return Takes(
        tuple(modalities) if isinstance(modalities, (list, tuple)) and modalities
        else networks.MODALITIES, said.get("left_to_right") is True,
    )  # fmt: skip
