"""Whether a run computes the same bits each time, and what cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from kerasft.errors import UserError
from kerasft.system import accelerators


@contextmanager
def chosen(cfg: DictConfig) -> Iterator[None]:
    """Compute inside the block as `deterministic` says.

    Args:
        cfg: The config.

    Raises:
        UserError: If an operation inside the block has no deterministic kernel, with its name.
    """
    import tensorflow as tf

    before = accelerators.is_deterministic()
    # Not left to the device so far: a run that cannot be repeated cannot be resumed exactly
    # either, and nobody has measured yet what it costs on a GPU (scripts/gpu_check does).
    accelerators.set_deterministic(cfg.deterministic in ("auto", True))
    try:
        yield
    except tf.errors.OpError as error:
        sentence = refusal(str(error))
        if sentence is None or not accelerators.is_deterministic():
            raise
        raise UserError(
            f"An operation of this run cannot compute the same bits each time: {sentence} "
            "deterministic=false lets it compute all the same: two runs of one config then differ "
            "by rounding, and so does one that is resumed. Or take out the layer or the step of "
            "augment that it belongs to."
        ) from error
    finally:
        if before:  # by whoever called
            accelerators.set_deterministic(True)


def refusal(message: str) -> str | None:
    """Return the sentence in which TensorFlow says that it cannot be deterministic, if it does.

    Args:
        message: Of an error.

    Example:
        >>> refusal("{{node a}} Determinism is not yet supported for MaxPoolGradWithArgmax.")
        'Determinism is not yet supported for MaxPoolGradWithArgmax.'
        >>> refusal("OOM when allocating tensor") is None
        True
    """
    found = re.search(
        r"[^\n{}.]*\b(?:[Dd]eterminis(?:m|tic)|determinsim)\b[^\n{}]*", message
    )
    if found is None:
        return None
    text = re.sub(r"\s*\[Op:\w+\].*", "", found[0]).strip()
    return text if text.endswith(".") else f"{text}."
