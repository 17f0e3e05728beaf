"""Out of memory: says which batch size would fit, or retries with smaller batches."""

from __future__ import annotations

import errno
import gc
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf

from kerasft.config import auto_batch
from kerasft.errors import UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.system import heap
from kerasft.system.console import warn

T = TypeVar("T")


class OutOfMemory(UserError):
    """A step or a validation took more memory than there is."""


def until_it_fits(
    carry_out: Callable[[DictConfig, RunFolder], T], cfg: DictConfig, folder: RunFolder
) -> T:
    """Carry out a run; out of memory with `faults.memory=halve`, restart it with half the batch.

    The run becomes the one whose config says half of the batch, so that it can be repeated.

    Args:
        carry_out: Carries it out.
        cfg: Its config, which is changed.
        folder: Its folder.

    Returns:
        What `carry_out` returned.
    """
    while True:
        try:
            made = carry_out(cfg, folder)
            heap.give_back()
            return made
        except OutOfMemory as error:
            if cfg.faults.get("memory") != "halve":
                raise
            settings = halve(cfg)
            # They count steps of the old size.
            shutil.rmtree(folder.states, ignore_errors=True)
            warn(f"{str(error).partition(' What takes')[0]} The run restarts with {settings}")
        let_go()


def let_go() -> None:
    """Give back what the attempt before held: its model, its graphs and what they point to."""
    import keras

    keras.utils.clear_session()
    gc.collect()
    heap.give_back()


@contextmanager
def noticed(cfg: DictConfig) -> Iterator[None]:
    """Report running out of memory inside the block in the user's words.

    Args:
        cfg: The config, for the message.

    Raises:
        OutOfMemory: If it does not.
    """
    import tensorflow as tf

    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        # Smaller batches are no remedy: TensorFlow gives nothing back to the system.
        raise UserError(
            f"The system has no memory left ({error.strerror}). End other processes, or set "
            "batch_size lower. If a run was restarted with smaller batches just now, "
            f"`kerasft resume {shlex.quote(str(cfg.output_dir))}` does so in a process that holds "
            "nothing yet."
        ) from error
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        # TensorFlow wraps the line that counts in a dozen others.
        found = re.search(r"(OOM when allocating|MemoryError|Failed to allocate)[^\n]*", str(error))
        reason = f" ({found[0][:160]})" if found else ""
        raise OutOfMemory(
            f"Out of memory with {_size(cfg)}{reason}. What takes "
            f"less: {_advice(cfg)}; eval_batch_size, if it happened in validation; a shorter "
            "backbone.sequence_length or smaller backbone.image_size; precision=mixed_bfloat16. "
            "faults.memory=halve does the first of these by itself."
        ) from error


def _size(cfg: DictConfig) -> str:
    if cfg.batch_tokens is not None:
        return f"batch_tokens={cfg.batch_tokens}"
    return f"batch_size={cfg.batch_size}"


def _advice(cfg: DictConfig) -> str:
    return " ".join(f"{key}={value}" for key, value in halved(cfg).items()) or "a smaller network"


def halved(cfg: DictConfig) -> dict[str, int]:
    """Return the settings that take half of the memory and learn from as many examples an update.

    Args:
        cfg: The config.

    Returns:
        Values by key; empty where a batch cannot be halved.

    Example:
        >>> from kerasft import compose
        >>> halved(compose(["batch_size=32"]))
        {'batch_size': 16, 'optimizer.gradient_accumulation_steps': 2}
        >>> halved(compose(["batch_size=32", "max_steps=10"]))["max_steps"]
        20
    """
    key = "batch_size" if cfg.batch_tokens is None else "batch_tokens"
    if cfg[key] < 2:
        return {}
    more = 2 * auto_batch.accumulated(cfg)
    smaller = {key: cfg[key] // 2, "optimizer.gradient_accumulation_steps": more}
    if cfg.eval_batch_size is not None:
        smaller["eval_batch_size"] = max(cfg.eval_batch_size // 2, 1)
    return smaller | {key: round(2 * steps) for key, steps in auto_batch.counted(cfg).items()}


def halve(cfg: DictConfig) -> str:
    """Set the config to what `halved` says, and return that as overrides.

    Raises:
        UserError: If a batch cannot be halved.
    """
    smaller = halved(cfg)
    if not smaller:
        raise UserError("Out of memory with a single example: use a smaller model.")
    for key, value in smaller.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    auto_batch.keep_whole(cfg)
    return " ".join(f"{key}={value}" for key, value in smaller.items())
