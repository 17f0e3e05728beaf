"""Asks an artifact in a process of its own, which has neither Keras nor kerasft."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasft.artifact import standalone
from kerasft.errors import UserError
from kerasft.system.processes import importable

SECONDS = 900


class ExportError(UserError):
    """An export that was written, checked and found wanting."""


@dataclass(frozen=True)
class Answers:
    """What an artifact answered in a fresh process.

    Args:
        outputs: For each call its outputs by name; empty where it failed.
        errors: For each call the words that it failed with, or `None`.
        seconds: For each call how long each of its repeats took.
        load_seconds: How long loading took.
        memory: The bytes that the process held before loading, after it, and at the end.
        tensorflow: The version that answered.
    """

    outputs: list[dict[str, np.ndarray]]
    errors: list[str | None]
    seconds: list[list[float]]
    load_seconds: float
    memory: list[int]
    tensorflow: str


def ask(
    directory: str | Path, calls: Sequence[tuple[str, Mapping[str, np.ndarray]]], *,
    repeats: int = 1, timeout: float = SECONDS,
) -> Answers:
    """Load an artifact in a fresh process through a session, as a server does, and ask it.

    Args:
        directory: The folder of a version.
        calls: The name of a signature and its inputs by name (strings as objects of bytes), for
            each call.
        repeats: How often each call is made, to time it.
        timeout: Seconds after which the process is given up.

    Returns:
        The `Answers`.

    Raises:
        ExportError: If it does not load, has no such signature or input, or does not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        requests, answers = Path(folder, "requests.npz"), Path(folder, "answers.npz")
        facts = {"signatures": [name for name, _ in calls], "repeats": repeats}
        standalone.pack(requests, facts, [dict(inputs) for _, inputs in calls])
        environment = fresh_environment()
        paths = (standalone.__file__, Path(directory).resolve(), requests, answers)
        try:
            done = subprocess.run(
                # Without -P the modules beside the script would hide others of their names.
                [sys.executable, "-P", *map(str, paths)], env=environment, cwd=folder,
                capture_output=True, timeout=timeout, check=False,
            )
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"The exported artifact did not answer within {timeout:g} s in a fresh process."
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ExportError(
                "The exported artifact does not run in a fresh process without Keras "
                f"(exit status {done.returncode}). Its last words:\n" + "\n".join(said[-12:])
            )
        told, outputs = standalone.unpack(answers)
        return Answers(outputs, **told)


def fresh_environment() -> dict[str, str]:
    """Return the environment of a process that checks what this one wrote.

    It finds packages where this process does, whatever made them importable here. It is without
    the accelerator, whose memory is this process's; and the figures are compared with those of the
    processor.
    """
    return {
        **os.environ, **importable(), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
