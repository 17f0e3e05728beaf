"""What was probably meant by words that other tools use: the key of ours, with the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from yaml import safe_load

from kerasft.catalogue import networks
from kerasft.config.parameters import NotFound, define
from kerasft.config.schema import NAMED, RUNTIME, SCALARS
from kerasft.system.shipped import shipped_dir

# What no signature of a default part says.
_CALLED: dict[str, str] = {
    "augmentation": "augment", "batch": "batch_size", "bs": "batch_size", "callback": "callbacks",
    "classes": "data.label_names", "clipnorm": "optimizer.global_clipnorm",
    "csv": "data=table data.path", "data_dir": "data=image_folder data.path",
    "data_path": "data.path", "dataset": "data", "doc_stride": "task.overlap",
    "early_stopping": "callbacks.early_stopping",
    "epoch": "epochs", "image_size": "backbone.image_size", "img_size": "backbone.image_size",
    "learning_rate": "optimizer.learning_rate", "lr": "optimizer.learning_rate",
    "loss": "task.loss", "max_length": "backbone.sequence_length", "metrics": "task.metrics",
    "max_seq_length": "backbone.sequence_length", "model": "backbone", "network": "backbone",
    "num_epochs": "epochs", "num_train_epochs": "epochs", "out": "output_dir",
    "output": "output_dir", "patience": "callbacks.early_stopping.patience", "path": "data.path",
    "preset": "backbone.preset", "scheduler": "schedule", "sequence_length":
    "backbone.sequence_length", "steps": "max_steps", "stride": "task.overlap",
    "train_batch_size": "batch_size",
    "wd": "optimizer.weight_decay", "weight_decay": "optimizer.weight_decay",
}  # fmt: skip


def key_for(word: str) -> str | None:
    """Return the key that a word stands for elsewhere, or that a default part has.

    Example:
        >>> key_for("lr"), key_for("label_smoothing"), key_for("nonsense")
        ('optimizer.learning_rate', 'task.label_smoothing', None)
    """
    return _CALLED.get(word.lower()) or _of_parts().get(word)


@lru_cache(maxsize=1)
def _of_parts() -> dict[str, str]:
    """Return the arguments of the default parts, each with its key."""
    conf, found = shipped_dir(), dict[str, str]()
    choices: dict[str, str] = {}
    for entry in safe_load((conf / "train.yaml").read_text("utf-8"))["defaults"]:
        choices |= entry if isinstance(entry, dict) else {}
    for group in RUNTIME:
        if group in NAMED or not choices.get(group):
            continue
        part = safe_load((conf / group / f"{choices[group]}.yaml").read_text("utf-8")) or {}
        if "_target_" not in part:
            continue
        try:
            takes = define(part["_target_"]).parameters
        except NotFound:
            continue
        for name in takes:
            if name not in RUNTIME[group]:
                found.setdefault(name, f"{group}.{name}")
    return found


def network(value: str) -> str | None:
    """Return the overrides that choose a network, of its name in KerasHub or keras.applications.

    Example:
        >>> network("resnet50"), network("bert_tiny_en_uncased")
        ('backbone=applications backbone.name=ResNet50', 'backbone.preset=bert_tiny_en_uncased')
    """
    plainly = re.sub(r"[\W_]", "", value).lower()
    for name in networks.application_names():
        if name.lower() == plainly:
            return f"backbone=applications backbone.name={name}"
    if value in networks.preset_names():
        return f"backbone.preset={value}"
    if "://" in value:
        return f"backbone.preset={value}"
    return None


def override_for(
    key: str, value: str, choices: Callable[[str], Sequence[str] | None]
) -> str | None:
    """Return the override that one with an unknown key probably means.

    Args:
        key: The key.
        value: What it was to be.
        choices: A function from a group to the names that it offers.

    Example:
        >>> override_for("lr", "1e-3", lambda group: None)
        'optimizer.learning_rate=1e-3'
        >>> override_for("model", "resnet50", lambda group: ["preset"])
        'backbone=applications backbone.name=ResNet50'
    """
    meant = key_for(key)
    if meant == "backbone" and (found := network(value)):
        return found
    if meant is None:
        return None
    if (names := choices(meant)) is not None and value not in names:
        return f"{meant}=NAME, one of {', '.join(names)}"
    return f"{meant}={value}" if value else f"{meant}=..."


def without_dashes(words: Sequence[str], option: str) -> str:
    """Say how a key of a config is set that was given as an option; `""` where it is none.

    Args:
        words: The whole command line, in which its value may come next, of a command that takes
            overrides of a run.
        option: The unknown option, as `--epochs` or `--epochs=5`.

    Example:
        >>> without_dashes(["train", "--epochs", "5"], "--epochs")
        'keys are set without dashes: epochs=5'
        >>> without_dashes(["train", "--lr=1e-3"], "--lr=1e-3")
        'keys are set without dashes: optimizer.learning_rate=1e-3'
    """
    if not option.startswith("--"):
        return ""
    name, mark, value = option.lstrip("-").partition("=")
    name = name.replace("-", "_")
    key = name if name.partition(".")[0] in (*SCALARS, *RUNTIME) else key_for(name)
    if key is None:
        return ""
    following = words[words.index(option) + 1:] if not mark and option in words else []
    if following and not following[0].startswith("-") and "=" not in following[0]:
        value = following[0]
    return f"keys are set without dashes: {key}={value or '...'}"


_SPACES = {
    "loguniform": "tag(log,interval({}))", "log_uniform": "tag(log,interval({}))",
    "uniform": "interval({})", "float": "interval({})", "randint": "int(interval({}))",
    "int_uniform": "int(interval({}))", "grid_search": "choice({})", "categorical": "choice({})",
}  # fmt: skip


def space(override: str) -> str | None:
    """Return the override that one in the words of another tool's search probably means.

    Example:
        >>> space("optimizer.learning_rate=loguniform(1e-5,1e-3)")
        'optimizer.learning_rate=tag(log,interval(1e-5,1e-3))'
    """
    match = re.fullmatch(r"([^=]+)=\s*(?:\w+\.)*(\w+)\((.*)\)\s*", override)
    if match is None or match[2].lower() not in _SPACES:
        return None
    inner = match[3].strip("[] ") if match[2] in ("grid_search", "categorical") else match[3]
    return f"{match[1]}={_SPACES[match[2].lower()].format(inner)}"
