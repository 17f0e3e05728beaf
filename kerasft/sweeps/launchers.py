"""What a launcher may be given: plain values without line breaks, and less from a folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft.config.composition import compose_search, options
from kerasft.errors import UserError, shown
from kerasft.sweeps.text import one_line

# What a folder may say to each launcher: sizes and names. All else may run commands, load code or
# write files anywhere, and is taken from the command line alone.
_SUBMITIT = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name",
    "stderr_to_stdout",
)  # fmt: skip
FROM_FOLDERS: dict[str, tuple[str, ...]] = {
    "basic": (),
    "joblib": ("n_jobs", "prefer", "require", "verbose", "timeout", "batch_size", "max_nbytes"),
    "ray": (),
    "submitit_local": _SUBMITIT,
    "submitit_slurm": (
        *_SUBMITIT, "partition", "qos", "comment", "constraint", "exclude", "gres", "cpus_per_gpu",
        "gpus_per_task", "mem_per_gpu", "mem_per_cpu", "account", "signal_delay_s",
        "max_num_timeout", "array_parallelism",
    ),
}  # fmt: skip
# What the texts among them may hold: nothing that quotes, comments or ends a line of a shell.
_TEXT = re.compile(r"[\w .,:;/@%+=*&|()\[\]~-]*")
# Control characters, separators of lines and paragraphs, halves of characters.
_BREAKING = ("Cc", "Zl", "Zp", "Cs")


def breaks_lines(text: str) -> bool:
    """Whether a text holds a line break or another control character.

    Example:
        >>> breaks_lines("gpu"), breaks_lines("gpu" + chr(10)), breaks_lines("gpu" + chr(0x2028))
        (False, True, True)
    """
    return any(unicodedata.category(letter) in _BREAKING for letter in text)


def problems(launcher: Any) -> Iterator[str]:
    """Yield what is wrong with a launcher and its settings, wherever they come from.

    Line breaks above all: launchers write settings into scripts, where a second line is a command.

    Args:
        launcher: What `launcher` holds.
    """
    if not isinstance(launcher, Mapping):
        yield (
            f"launcher must hold the name of a launcher and its settings. Received: "
            f"{shown(launcher)}."
        )
        return
    if odd := [key for key in launcher if key not in ("name", "settings")]:
        yield f"launcher may hold name and settings alone. Received: {shown(odd[0])}."
    name, settings = launcher.get("name"), launcher.get("settings")
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_]*", name)):
        yield f"launcher.name must be the name of a launcher, or null. Received: {shown(name)}."
    if settings is not None and not isinstance(settings, Mapping):
        yield f"launcher.settings must be a mapping. Received: {shown(settings)}."
    elif settings:
        yield from _lines("launcher.settings", settings)


def _lines(key: str, value: object) -> Iterator[str]:
    if isinstance(value, str) and breaks_lines(value):
        yield (
            f"{key} may hold no line breaks and no other control characters: a launcher may write "
            f"it into a script. Received: {shown(value)}."
        )
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if breaks_lines(str(name)):
                yield (
                    f"{key} may have no key with line breaks or other control characters. "
                    f"Received: {shown(name)}."
                )
            else:
                yield from _lines(f"{key}.{name}", inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, inner in enumerate(value):
            yield from _lines(f"{key}.{place}", inner)


def require_harmless(launcher: Mapping[str, Any], path: str) -> None:
    """See that a launcher of a sweep's folder runs nothing that the folder says.

    Args:
        launcher: What `launcher` holds.
        path: The folder, for the message.

    Raises:
        UserError: If it might.
    """
    name, settings = launcher.get("name") or "", launcher.get("settings") or {}
    if not name:
        return
    shipped: Mapping[str, Any] = {}
    if name in options("launcher"):
        shipped = compose_search([f"launcher={name}"])["launcher"]["settings"]
    allowed = FROM_FOLDERS.get(name)
    if allowed is None:
        raise UserError(
            f"The sweep in {path!r} names the launcher {shown(name)}, which is not taken from a "
            f"folder. Allowed: {', '.join(FROM_FOLDERS)}. If the sweep is your own, go on with "
            f"the command that began it: kerasft sweep ... launcher={name} "
            f"output_dir={one_line(path)}"
        )
    odd = [key for key, value in settings.items()
           if value != shipped.get(key) and not (key in allowed and _is_plain(value))]  # fmt: skip
    if odd:
        raise UserError(
            f"The sweep in {path!r} holds launcher settings that could run commands or write "
            f"elsewhere: {', '.join(odd)}. If they are your own, go on with the command that began "
            f"the sweep, which has them: kerasft sweep ... launcher.settings.{odd[0]}=... "
            f"output_dir={one_line(path)}"
        )


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return bool(_TEXT.fullmatch(value))
    return value is None or isinstance(value, int | float)


def require_place(path: str) -> None:
    """See that a launcher can be given a folder, which it writes into its scripts, too.

    Raises:
        UserError: If its name holds a line break.
    """
    if breaks_lines(path):
        raise UserError(
            "A launcher takes no folder whose name holds line breaks or other control characters: "
            f"it may write it into a script. Received: {path!r}. Rename it."
        )
