"""Accelerators of this machine, as TensorFlow sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any


def gpus() -> list[Any]:
    """Return the GPUs that TensorFlow may use; none is set up by asking."""
    import tensorflow as tf

    return list(tf.config.list_physical_devices("GPU"))


def is_deterministic() -> bool:
    """Whether TensorFlow computes the same bits each time."""
    from tensorflow.python.framework import config  # nothing public tells

    return bool(config.is_op_determinism_enabled())


def set_deterministic(wanted: bool) -> None:
    """Have TensorFlow compute the same bits each time, or in whatever way is fastest.

    Args:
        wanted: Which of the two; operations without a deterministic kernel raise with the first.
    """
    import tensorflow as tf
    from tensorflow.python.framework import config

    if wanted:
        tf.config.experimental.enable_op_determinism()
    elif is_deterministic():
        config.disable_op_determinism()


def seen() -> list[str]:
    """Return the names of the GPUs that processes may be given, without importing TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # as queues set it; empty where none is to be seen
        return [one.strip() for one in visible.split(",") if one.strip()]
    if (tool := shutil.which("nvidia-smi")) is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    count = len([line for line in listed.stdout.splitlines() if line.startswith("GPU")])
    return [str(number) for number in range(count)]


def share(devices: Sequence[str], slot: int, workers: int, each: int = 1) -> dict[str, str]:
    """Return what gives a process accelerators of its own, where there are several.

    Args:
        devices: The names of all.
        slot: The number of the process.
        workers: How many there are. Those that share an accelerator take of its memory what they
            need, and not all of it.
        each: How many accelerators a process gets.

    Returns:
        Environment variables.

    Example:
        >>> share(["4", "5", "6", "7"], 1, 2, 2)
        {'CUDA_VISIBLE_DEVICES': '6,7'}
    """
    # In turn, so that where they do not come out even each is taken about as often.
    mine = [devices[(slot * each + place) % len(devices)] for place in range(each) if devices]
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if len(devices) > 1 else {}
    if 0 < len(devices) < workers * each:
        chosen["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return chosen
