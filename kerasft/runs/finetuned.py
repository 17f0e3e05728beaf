"""A fine-tuned model with all that is needed to use it: preprocessing, task and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.abilities import Generates
from kerasft.artifact.comparison import Output
from kerasft.config import auto_batch
from kerasft.contracts import Framed, Located, Recalling, Task, Tunable, odd_units
from kerasft.data import pipeline
from kerasft.data.inputs import read_inputs
from kerasft.data.late_texts import Chosen
from kerasft.data.preprocessing import prepare
from kerasft.distributed.group import ALONE, Group, current
from kerasft.errors import UserError, in_short, some
from kerasft.evaluation.measure import Measured, stream
from kerasft.raw_input import as_raw
from kerasft.rows import Rows
from kerasft.runs import again, run_folder
from kerasft.spec import (
    Examples,
    ImagePreprocess,
    Labels,
    Preprocess,
    Tensors,
    placed,
    takes_images,
    takes_texts,
)
from kerasft.system import heap
from kerasft.system.files import read_json, write_json
from kerasft.system.recorded import read_labels

if TYPE_CHECKING:
    import keras

    from kerasft.data.store import Store

# About so many examples are answered in one go where all need not be there together.
AT_ONCE = 1 << 12


@dataclass(frozen=True)
class FineTuned:
    """A model that answers raw input.

    Args:
        model: The Keras model, from preprocessed tensors to logits.
        preprocess: Turns raw input into these tensors.
        task: Turns logits into answers.
        labels: What the answers mean.
        batch_size: Examples in a prediction step.
        untuned: The task before its decisions were tuned, where they were: what it keeps does not
            hang on them, and what keeps it is traced.
    """

    model: Any
    preprocess: Preprocess
    task: Task
    labels: Labels
    batch_size: int = 64
    untuned: Task | None = None

    def targets(self, annotations: Rows) -> Rows:
        """Return what the network is measured against, of labels; to be made once."""
        return self.task.targets(placed(annotations, self.preprocess), self.labels)

    def measure(
        self, ready: Store, targets: Rows | None = None, *, loss: int | None = None,
        group: Group = ALONE,
    ) -> Measured:
        """Run the network over examples, and keep what the task keeps of each.

        Args:
            ready: Examples that `data.prepare` made ready.
            targets: What `targets` made of their labels, where there are any.
            loss: Examples of a batch whose loss is taken as one, see `loss_batch_size`, where the
                model's own loss is wanted too; it must be compiled. What it comes to may depend on
                that number, never on `batch_size`.
            group: The devices and processes that share the work; all of them must ask, and all
                get the same.
        """
        from kerasft.model.precision import whole_float32

        task, labels = self.task, self.labels
        targets = Rows.of({}, len(ready)) if targets is None else targets
        data, order = pipeline.in_one_pass(
            ready, loss or self.batch_size, targets=targets, share=(group.rank, group.workers)
        )
        batch = partial(task.batch, labels=labels) if loss else None
        keeps = self.untuned or task
        most = self.batch_size if loss and loss > self.batch_size else None
        with whole_float32():
            return stream(
                self.model, data, order, keeps.keep, key=(keeps, labels, "keep"), batch=batch,
                group=group, most=most,
            )

    def statistics(self, annotations: Rows, kept: Rows) -> dict[str, np.ndarray]:
        """Return what each example adds to the figures, of its labels and what was kept of it."""
        return self.task.statistics(annotations, kept, self.labels)

    def figures(self, annotations: Rows, kept: Rows) -> dict[str, Any]:
        """Return the task's figures, of labels and what was kept of the examples."""
        return self.task.figures(self.statistics(annotations, kept), self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels.names

    @property
    def rules(self) -> Mapping[str, Output]:
        """What each of `answers` is, see `Output`."""
        return self.task.outputs(self.labels)

    def answers(
        self, ready: Store, kept: Rows | None = None, *, inputs: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """Return the task's named answers for examples.

        Args:
            ready: Examples that `data.prepare` made ready.
            kept: What was kept of them, where the network has gone through them already.
            inputs: The raw examples, for answers with positions in them.

        Returns:
            Arrays with a row an example; lists of arrays where lengths differ.
        """
        task, labels = self.task, self.labels
        if isinstance(task, Recalling):
            rows = self.measure(ready, self._places(inputs)).rows if kept is None else kept
            return task.answer(rows, labels)
        from kerasft.model.precision import whole_float32

        frames = self._frames(inputs)
        data, order = pipeline.in_one_pass(
            ready, self.batch_size, targets=Rows.of(frames, len(ready))
        )

        def answered(
            outputs: Tensors, inputs: Tensors, placed: Mapping[str, Any]
        ) -> Mapping[str, Any]:
            found = task.answers(outputs, labels)
            if "frame" in placed:
                assert isinstance(task, Framed)
                return task.in_image(found, placed["frame"], labels)
            return found

        with whole_float32():
            rows = stream(
                self.model, data, order, answered, key=(task, labels, "answers", *frames)
            ).rows
        return {
            name: rows[name] if column.ends is None
            else [rows.row(i)[name] for i in range(len(rows))]
            for name, column in rows.columns.items()
        }  # fmt: skip

    def each_answer(
        self, ready: Store, kept: Rows | None = None, *, inputs: Sequence[Any] = ()
    ) -> Iterator[dict[str, Any]]:
        """Yield what `answers` returns, piece by piece: of many examples it may not fit in memory.

        Args:
            ready: See `answers`, as the others.
            kept: What was kept of them.
            inputs: The raw examples.
        """
        # Whole batches: images then stand in the same ones as when all are answered at once.
        size = -(-AT_ONCE // self.batch_size) * self.batch_size
        for start in range(0, len(ready), size):
            rows = np.arange(start, min(start + size, len(ready)))
            yield self.answers(
                ready.take(rows), None if kept is None else kept.take(rows),
                inputs=Chosen([inputs], rows) if len(inputs) else (),
            )

    def _places(self, inputs: Sequence[Any]) -> Rows | None:
        """Return where the words of texts stand, where answers hold positions in texts."""
        if not isinstance(self.task, Located):
            return None
        return placed(Rows.of({"text": as_raw(inputs, "text")}), self.preprocess)

    def _frames(self, inputs: Sequence[Any]) -> Mapping[str, Any]:
        """Return how each image is placed, where answers hold positions in images."""
        ready = self.preprocess
        if not (len(inputs) and isinstance(self.task, Framed) and takes_images(ready)):
            return {}
        frames = _framing(ready)  # type: ignore[arg-type]  # a protocol, which says no hash
        return {"frame": np.concatenate([
            frames(as_raw(inputs[i : i + self.batch_size], "images").tolist()).numpy()
            for i in range(0, len(inputs), self.batch_size)
        ])}  # fmt: skip

    def tuned(self, annotations: Rows, kept: Rows) -> FineTuned:
        """Return the same model with the task's decisions tuned on examples."""
        if not isinstance(self.task, Tunable):
            return self
        task = self.task.tune(annotations, kept, self.labels)
        return replace(self, task=task, untuned=self.untuned or self.task)

    def __call__(self, raw: object) -> dict[str, np.ndarray]:
        """Answer raw input: texts, pairs of texts, or images.

        Args:
            raw: A list, an array or a column of a frame. Images are paths, encoded bytes, arrays of
                pixels (8 bits, or floats from 0 to 1 or 255) or images of Pillow.

        Returns:
            The task's outputs by name, each with one row an input. Labels are strings; encoded
            images, whose names end in `_bytes`, are bytes.

        Raises:
            UserError: If an input is not what the model takes, or cannot be read.

        Example:
            >>> result = train(["debug=quick", "baseline=null"])  # doctest: +SKIP
            >>> result.finetuned(["seven.png"])["label"]  # doctest: +SKIP
            array(['7'], dtype=object)
        """
        raw = read_inputs(raw, self.preprocess.modality)
        wants = "pairs of texts" if self.preprocess.pair else "single inputs"
        for one in raw:
            if isinstance(one, tuple | list) != bool(self.preprocess.pair):
                raise UserError(
                    f"This model takes {wants}. Received: {str(one)[:80]!r}."
                )
        examples = Examples(
            self.preprocess.modality, raw, Rows.of({}, len(raw)),
            tuple(str(r)[:80] if not isinstance(r, bytes) else f"input {i}"
                  for i, r in enumerate(raw)),
        )
        if isinstance(self.task, Generates):
            found = self.task.write(self.model, self.preprocess, raw)
        else:
            found = self.answers(prepare(examples, self.preprocess), inputs=raw)
        return {name: value if name.endswith("_bytes") else as_text(value)
                for name, value in found.items()}  # fmt: skip

    def save(self, folder: run_folder.RunFolder) -> None:
        """Write all but the network, which training has written."""
        self.preprocess.save(folder.preprocess)
        write_json(folder.labels, self.labels.to_dict())
        write_json(folder.task, self.task.to_dict())


def load(
    folder: run_folder.RunFolder, cfg: DictConfig, *, trusted: Sequence[str] = ()
) -> FineTuned:
    """Load the fine-tuned model of a run folder.

    Args:
        folder: The folder.
        cfg: The config of the run.
        trusted: Import prefixes that the task may come from, beside kerasft's own.

    Returns:
        A `FineTuned`.

    Raises:
        UserError: If what is in the folder is damaged, or does not fit together.
    """
    import keras

    import kerasft.model.layers
    import kerasft.model.surgery.operated
    import kerasft.model.text.isolation
    import kerasft.model.text.next_token
    import kerasft.model.text.windows
    import kerasft.training.schedules  # noqa: F401  (registers what a .keras file may hold)
    from kerasft.model import preprocess
    from kerasft.model.precision import in_float32
    from kerasft.tasks import shared

    labels = read_labels(folder.labels)
    made = preprocess.load(folder.preprocess)
    try:
        import keras_hub  # noqa: F401  (its layers must be known before the file is read)

        network = keras.saving.load_model(folder.network, compile=False, safe_mode=True)
    except Exception as error:
        raise UserError(
            f"{str(folder.network)!r} cannot be loaded: {in_short(error)}. The "
            f"file is damaged or from another version; train again: {again.train(folder.path)}"
        ) from error
    try:
        task = shared.load(read_json(folder.task, "class"), trusted=("kerasft", *trusted))
    except UserError as error:
        raise UserError(f"The task of the run ({folder.task.name}): {error}") from error
    if not labels.is_of(task.kind):
        raise UserError(
            f"{str(folder.labels)!r} is of another run: its labels are of the kind "
            f"{labels.to_dict()['kind']!r}, and those of {folder.task.name} {task.kind!r}."
        )
    if (units := odd_units(network, task, labels)) is not None:
        raise UserError(
            f"{str(folder.labels)!r} is of another run: the network has {some(units, 'output')}, "
            f"and it lists {some(len(labels.names), 'label')}."
        )
    _require_fit(network, made, folder)
    heap.keep()
    return FineTuned(in_float32(network), made, task, labels, eval_batch_size(cfg))


def _require_fit(
    network: keras.Model, preprocess: Preprocess, folder: run_folder.RunFolder
) -> None:
    """See that a network takes what the preprocessing makes."""
    inputs = network.input if isinstance(network.input, dict) else {"images": network.input}
    takes: Any = sorted(inputs)
    if takes_images(preprocess):
        has: Any = [preprocess.height, preprocess.width]
        takes = list(inputs["images"].shape[1:3]) if "images" in inputs else takes
    else:
        assert takes_texts(preprocess)
        has = sorted(getattr(preprocess, "network_inputs", preprocess.inputs))
    if has != takes:
        raise UserError(
            f"{str(folder.preprocess)!r} is of another run: it makes {has}, and the network takes "
            f"{takes}."
        )


def as_text(value: Any) -> Any:
    """Return an output with bytes as text; numbers stay what they are.

    Example:
        >>> as_text(np.array([b"cat", b"dog"], object))
        array(['cat', 'dog'], dtype=object)
    """
    if isinstance(value, list):
        return [as_text(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        made = np.empty(value.shape, object)
        made[...] = np.vectorize(as_text, otypes=[object])(value) if value.size else value
        return made
    return value


def eval_batch_size(cfg: DictConfig) -> int:
    """Return how many examples a prediction step takes: twice those that a device trains on."""
    return cfg.eval_batch_size or -(-loss_batch_size(cfg) // current().replicas)


def loss_batch_size(cfg: DictConfig) -> int:
    """Return of how many examples at once validation takes the loss.

    It is the same for any number of devices. A loss may count words, pixels or boxes of a batch, or
    be any function of it: the mean over batches is then another number for batches of another size.
    """
    return cfg.eval_batch_size or 2 * auto_batch.examples(cfg)


@lru_cache(maxsize=4)
def _framing(preprocess: ImagePreprocess) -> Any:
    """Return the function that tells how images are placed, traced once.

    Image by image in Python it takes some 40 times as long (5.6 s for 48 images, 0.14 s here).
    """
    import tensorflow as tf

    return tf.function(
        lambda raw: preprocess.framed(raw)[1], autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string)],
    )  # fmt: skip
