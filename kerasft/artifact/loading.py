"""An exported artifact as a function from raw examples to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import Output, filled_up, rules_of
from kerasft.artifact.layout import as_inputs, find_export, read_signature
from kerasft.artifact.standalone import register_text_ops
from kerasft.errors import Unreadable, UserError

BATCH = 32


@dataclass(frozen=True)
class Predictor:
    """A loaded artifact.

    Args:
        path: The version directory.
        signature: What its `signature.json` says.
        artifact: The loaded SavedModel.
    """

    path: Path
    signature: dict[str, Any]
    artifact: Any = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return tuple(self.signature.get("labels", ()))

    @property
    def rules(self) -> dict[str, Output]:
        """What each output is."""
        return rules_of(self.signature)

    def __call__(self, raw: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the artifact's outputs for raw examples.

        Args:
            raw: Texts or encoded images (or their paths), `[N]`; pairs of texts `[N, 2]`.

        Returns:
            Output name to array, each with `N` first.

        Raises:
            UserError: If there is no example, or one that the artifact cannot read.
        """
        import tensorflow as tf

        inputs = as_inputs(raw, self.signature)
        count = len(next(iter(inputs.values())))
        if count == 0:
            raise UserError("There is nothing to predict. Received: no examples.")
        serve = self.artifact.signatures["serving_default"]
        parts = []
        for start in range(0, count, BATCH):
            batch = {name: tf.constant(v[start : start + BATCH]) for name, v in inputs.items()}
            try:
                outputs = serve(**batch)
            except tf.errors.InvalidArgumentError as error:
                raise Unreadable(
                    f"The export at {str(self.path)!r} cannot read one of the examples "
                    f"{start} to {min(start + BATCH, count) - 1}: {_first_line(error)}"
                ) from error
            parts.append({name: value.numpy() for name, value in outputs.items()})
        return {
            name: np.concatenate(filled_up([part[name] for part in parts])) for name in parts[0]
        }


def load_export(path: str | Path) -> Predictor:
    """Load an exported artifact.

    Args:
        path: The folder of a version, or its parent, of which the highest version is taken.

    Returns:
        A callable from raw examples to outputs, with the `signature`.

    Raises:
        UserError: If there is no artifact of ours at `path`.

    Example:
        >>> load_export("served/films")(["a fine film"])["label"]  # doctest: +SKIP
        array([b'positive'], dtype=object)
    """
    directory = find_export(path)
    signature = read_signature(directory)
    import tensorflow as tf

    if signature["modality"] == "text":
        register_text_ops()
    try:
        artifact = tf.saved_model.load(str(directory))
        artifact.signatures["serving_default"]
    except Exception as error:
        raise UserError(
            f"The export at {str(directory)!r} cannot be loaded ({_first_line(error)}). It is "
            "damaged, or from elsewhere; export the run again: kerasft export RUN"
        ) from error
    return Predictor(directory, signature, artifact)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).strip().splitlines()[0]
