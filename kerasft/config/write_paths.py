"""Confines callbacks that write files to the run folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kerasft.errors import UserError
from kerasft.system.files import current, impossible

# The callbacks that write, the parameter that says where, and its default.
WRITING: dict[str, tuple[str, str | None]] = {
    "keras.callbacks.CSVLogger": ("filename", None),
    "keras.callbacks.ModelCheckpoint": ("filepath", None),
    "keras.callbacks.TensorBoard": ("log_dir", "logs"),
}
# What a run writes itself, and other callbacks may not replace.
_OWN = (
    "config.yaml", ".config.yaml", "labels.json", "task.json", "manifest.json", "manifest.arrow",
    "manifest.new.arrow", "metrics.json",
    "run.json", "baseline.json", "floor.json", ".lock", ".writable", "evidence.npz", "preprocess",
    "plots", "predictions", "exports", "checkpoints/states", "checkpoints/best.keras",
    "checkpoints/last.keras", "checkpoints/adapter.safetensors", "checkpoints/soup",
    "logs/epochs.jsonl", "logs/epochs.csv", "logs/faults.jsonl", "logs/stalled.txt",
    "logs/updates.jsonl", "logs/training_sample.json", "logs/training_sample.jsonl",
    "diagnosis.json", "samples.txt",
)  # fmt: skip
# Folders of it, in which others may write, too.
_SHARED = ("logs/tensorboard",)
# The models of the best epochs, of which those that are among them no more are removed.
_EPOCHS = re.compile(r"checkpoints/epoch-.*\.keras")
# The one that fills in fields, and the one that is given a folder; the others are given a file.
_FILLING, _FOLDER = "keras.callbacks.ModelCheckpoint", "keras.callbacks.TensorBoard"
# What ModelCheckpoint fills in: {epoch:02d}, {val_loss:.3f}. Attributes and fill characters could
# make other paths of it.
_FIELD = re.compile(r"\{[A-Za-z_]\w*(:0?\d{0,2}(\.\d{1,2})?[defgEFG%]?)?\}")
# The callbacks that the command line trusts to write anywhere.
_FREE: ContextVar[frozenset[str]] = ContextVar("free", default=frozenset())


def free(targets: Iterable[str]) -> None:
    """Let callbacks that the command line trusts write anywhere, from here on.

    Args:
        targets: Those of `WRITING`; each call replaces what an earlier one allowed.
    """
    _FREE.set(frozenset(targets))


def mappings(values: object, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each mapping in plain values, however deep it is, with its key.

    Example:
        >>> [key for key, _ in mappings({"a": [{"b": 1}]})]
        ['', 'a.0']
    """
    if isinstance(values, Mapping):
        yield key, values
        for name, inner in values.items():
            yield from mappings(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for number, inner in enumerate(values):
            yield from mappings(inner, f"{key}.{number}" if key else str(number))


def calls(values: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each call of a writing callback in plain values, with its key."""
    for key, node in mappings(values):
        target = node.get("_target_")
        if isinstance(target, str) and target in WRITING:
            yield key, node


def problems(
    values: Mapping[str, Any], output_dir: str | None, trusted: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield every path of a config that leads out of the run folder, as far as the text tells.

    Args:
        values: The config, resolved.
        output_dir: The run folder, where the config names it.
        trusted: Those of `WRITING` that may write anywhere.

    Yields:
        Key and message.
    """
    allowed = set(trusted)
    for key, node in calls(values):
        target = node["_target_"]
        if target in allowed:
            continue
        if key.split(".")[0] != "callbacks":
            yield f"{key}._target_", (
                f"{key}._target_ is refused: {target} writes files, and only a callback does. "
                f"Received: {target!r}. Put it below `callbacks`."
            )
            continue
        name = WRITING[target][0]
        if problem := _problem(target, node, output_dir):
            yield f"{key}.{name}", f"{key}.{name} {problem}"


def _problem(target: str, node: Mapping[str, Any], output_dir: str | None) -> str | None:
    name, usual = WRITING[target]
    if node.get("_args_"):
        return f"must be given by its name: {name}=... . Received: _args_={node['_args_']!r}."
    path = node.get(name, usual)
    if not isinstance(path, str) or not path.strip():
        return f"must be a path below the run folder, as text. Received: {path!r}."
    anywhere = f"--trust {target} lets it write anywhere"
    if ".." in Path(path).parts or "\0" in path:
        return (
            f"must be a path below the run folder, without '..': {target} writes there. Received: "
            f"{path!r}. {anywhere}."
        )
    if reason := impossible(path):
        return f"must be a path that there can be: {reason}. Received: {path[:80]!r}."
    if re.search(r"[{}]", path) and target != _FILLING:
        return (
            f"may hold no braces: {target} fills in no fields; {_FILLING} does. Received: {path!r}."
        )
    if re.search(r"[{}]", _FIELD.sub("", path)):
        return (
            "may hold fields such as {epoch:02d} or {val_loss:.3f}, and no other braces. Received: "
            f"{path!r}."
        )
    if Path(path).is_absolute() and not _is_below(path, output_dir):
        return (
            f"must be a path below the run folder: {target} writes there. Received: {path!r}. A "
            f"relative path, such as logs/{Path(path).name}, is taken from the run folder. "
            f"{anywhere}."
        )
    return _taken(target, path, output_dir)


def _taken(target: str, path: str, output_dir: str | None) -> str | None:
    """Say which of the run's own files or folders a path is or is in, or that it is above one."""
    given = [Path(os.path.normpath(path))]
    if output_dir is not None:
        above = _absolute(Path(output_dir).expanduser())
        full = Path(os.path.normpath(_absolute(path)))
        given += [full.relative_to(above)] if full.is_relative_to(above) else []
    # Some file systems take names that differ in case for the same.
    given = [Path(str(one).casefold()) for one in given]
    for own in _OWN:
        if any(one.is_relative_to(own) for one in given):
            return f"may not be {own!r}, which the run writes itself. Received: {path!r}."
    if any(_EPOCHS.match(str(one)) for one in given):
        return (
            "may not begin as the models of the best epochs do (checkpoints/epoch-...), which "
            f"are removed when better ones come. Received: {path!r}."
        )
    held = [own for own in (*_OWN, *_SHARED) for one in given if Path(own).is_relative_to(one)]
    if held and target != _FOLDER:
        return (
            f"must be a file, and that is a folder of the run, which holds {held[0]}. Received: "
            f"{path!r}. For instance: {os.path.normpath(path)}/own{_SUFFIXES[target]}."
        )
    return None


_SUFFIXES = {"keras.callbacks.CSVLogger": ".csv", _FILLING: ".keras"}


def _absolute(path: str | Path) -> Path:
    """Return a path from the root on; where the current folder is gone, one of nothing."""
    return (current() or Path(os.sep)) / path


def _is_below(path: str, folder: str | None) -> bool:
    """Whether a path is below a folder by its text; `..` is not in it."""
    if folder is None:
        return False
    above = Path(os.path.normpath(_absolute(Path(folder).expanduser())))
    below = Path(os.path.normpath(path))
    return below != above and below.is_relative_to(above)


def placed(values: Any, output_dir: str | None) -> Any:
    """Return the values of a node with the paths of its writing callbacks below the run folder.

    Args:
        values: Plain values of a node.
        output_dir: The run folder; `None` where a node of another group is built.

    Returns:
        The same values where no callback in them writes, else changed copies: paths are absolute,
        and the folders above them are there.

    Raises:
        UserError: If a path leads out of the run folder, by a link for instance.
    """
    if not any(True for _ in calls(values)):
        return values
    if isinstance(values, Mapping):
        copy = {name: placed(inner, output_dir) for name, inner in values.items()}
        target = copy.get("_target_")
        if target in WRITING and target not in _FREE.get():
            name = WRITING[target][0]
            copy[name] = _place(target, copy, output_dir)
        return copy
    return [placed(inner, output_dir) for inner in values]


def _place(target: str, node: Mapping[str, Any], output_dir: str | None) -> str:
    name, usual = WRITING[target]
    where = f"The {name} of {target}"
    if output_dir is None:
        raise UserError(f"{where} is refused: only a callback of a run writes files.")
    # Without resolving links yet: where they lead is what is looked at.
    root = Path(os.path.normpath(_absolute(output_dir)))
    if problem := _problem(target, node, str(root)):
        raise UserError(f"{where} {problem}")
    # "${output_dir}/log.csv" is below the run folder already, also where that is relative.
    path = node.get(name, usual)
    full = Path(os.path.normpath(_absolute(path)))
    if not _is_below(str(full), str(root)):
        full = Path(os.path.normpath(root / path))
    # Up to the first field: what comes behind is in this folder.
    below = str(full.relative_to(root))
    fixed = full if "{" not in below else (root / (below.partition("{")[0] + "x")).parent
    for one in _within(fixed):
        if not one.resolve().is_relative_to(root.resolve()):
            raise UserError(
                f"{where} leads out of the run folder: {one} is a link to {one.resolve()}. Remove "
                f"the link, or let it write there with --trust {target}."
            )
    (fixed.parent if fixed == full else fixed).mkdir(parents=True, exist_ok=True)
    # Braces of the run folder's own name are no fields.
    above = str(root).replace("{", "{{").replace("}", "}}") if target == _FILLING else str(root)
    return os.path.join(above, below)  # noqa: PTH118 - it is a pattern, not a path yet


def _within(path: Path) -> Iterator[Path]:
    """Yield a path and, where it is a folder that a callback fills, every link in it."""
    yield path
    for place, folders, files in os.walk(path):
        yield from (one for name in (*folders, *files) if (one := Path(place) / name).is_symlink())
