"""`kerasft probe`: which backbone, and how much of it, before anything is trained."""

from __future__ import annotations

import gc
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.config.alternatives import Alternative, alternatives
from kerasft.config.checks import settle
from kerasft.config.composition import plain
from kerasft.contracts import Solvable
from kerasft.data.sample import sample
from kerasft.errors import UserError
from kerasft.evaluation.metrics import direction
from kerasft.evaluation.uncertainty import mcnemar, right
from kerasft.runs.finetuned import eval_batch_size
from kerasft.spec import Backbone, Splits, takes_texts
from kerasft.steps.advice.probed import Probed, Row, shown
from kerasft.steps.fitting import solving
from kerasft.steps.fitting.solving import Solved
from kerasft.steps.preparing import in_memory, prepare
from kerasft.system.console import say, without_chatter
from kerasft.system.files import write_json
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras

    from kerasft.data.store import Store

# Of so many examples the time is taken, in so many rounds, of which the shortest counts.
TIMED, ROUNDS = 64, 2
# So many of the texts at the limit are tokenized again, to see whether they are cut.
LOOKED_AT = 200
# A shallower place is suggested where chance explains its better figure less often than this.
LIKELY = 0.05


@without_chatter()
def probe(
    config: Sequence[str] = (), *, data: Any = None, backbones: Sequence[Sequence[str]] = (),
    size: int = 2000, depths: int = 3, output: str | None = None,
    config_dirs: Sequence[str] = (), trusted: Sequence[str] = (),
) -> Probed:
    """Compare backbones by what a linear head reaches on their features, without training them.

    A sample of the training examples goes through each backbone once. On the features at several
    depths logistic regression is solved (ridge regression for numbers), and measured on validation
    examples, which the strength of its penalty is chosen on, too. The test split is not looked at.

    Args:
        config: Overrides as on the command line; those of `backbone` may have several values:
            `["backbone.preset=a,b"]`.
        data: Examples in memory, see `kerasft.train`.
        backbones: Further backbones, each a list of overrides.
        size: How many training and how many validation examples are used at most.
        depths: At how many depths each backbone is probed, all of it among them; 1 for that alone.
        output: A JSON file that the table is written to; `None` for none.
        config_dirs: Folders with configs of your own.
        trusted: Import prefixes, beside the built-in ones, that a `_target_` may start with.

    Returns:
        A `Probed`; printed, it is the table with the suggestion.

    Raises:
        UserError: For any mistake in the config or the data; if no backbone could be probed.

    Example:
        >>> found = probe(["backbone=preset,tiny_resnet"], depths=1)  # doctest: +ELLIPSIS
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        ...
        >>> found.suggested.backbone
        ('backbone=preset',)
    """
    if size < 10 or depths < 1:
        raise UserError(
            f"size must be at least 10, and depths at least 1. Received: size={size}, "
            f"depths={depths}."
        )
    choices, left_out, configs = alternatives(list(config), "backbone", backbones), {}, []
    problems: dict[str, None] = {}
    for one in choices:
        try:
            cfg = settle(in_memory.reading(one.overrides, data, config_dirs), config_dirs, trusted)
            configs.append((one, cfg))
        except UserError as error:
            left_out[shown(one.own)] = " ".join(error.problems)
            problems |= dict.fromkeys(error.problems)
    if not configs:
        raise UserError(problems=list(problems))
    first = configs[0][1]
    prepare.require_monitors(first)
    with prepare.runtime(first), in_memory.holding(first, data):
        drawn = draw(first, size)
        found: list[tuple[Alternative, Row, Solved]] = []
        for one, cfg in configs:
            try:
                with status.showing(f"probing {shown(one.own) or 'the backbone'} ..."):
                    found += [(one, *row) for row in rows_of(cfg, one, drawn, depths)]
            except UserError as error:
                left_out[shown(one.own) or "the backbone"] = " ".join(error.problems)
            gc.collect()
    if not found:
        raise UserError(problems=[f"{name}: {why}" for name, why in left_out.items()])
    made = _concluded(found, drawn, left_out, in_memory_data=data is not None,
                      options=_options(config_dirs, trusted))  # fmt: skip
    say(str(made))
    if output is not None:
        write_json(output, made.to_dict())
        say(f"written: {output}")
    return made


@dataclass(frozen=True)
class Drawn:
    """What all backbones are probed on.

    Args:
        parts: The cheap parts.
        splits: The sample.
        task: The task, which knows the training labels.
        examples: How many training examples there are in all.
    """

    parts: prepare.Parts
    splits: Splits
    task: Any
    examples: int


def draw(cfg: DictConfig, size: int) -> Drawn:
    """Return a sample of the data, without the test split.

    Args:
        cfg: The config.
        size: How many training and how many validation examples at most.

    Raises:
        UserError: If the task has no linear head that can be computed.
    """
    parts = prepare.cheap_parts(cfg)
    if not isinstance(parts.task, Solvable):
        raise UserError(
            "kerasft probe fits a linear head on one vector an example: it is of tasks of classes "
            f"and of numbers. Received: task._target_={cfg.task['_target_']}. To compare backbones "
            "here, train with few epochs: kerasft train -m backbone=... epochs=2."
        )
    splits = prepare.read_data(cfg, parts, None)
    task = parts.task.adapt(splits.train.annotations)
    drawn = {
        name: part.take(sample(task.targets(part.annotations, splits.labels)["labels"], size,
                               cfg.seed))
        for name, part in (("train", splits.train), ("validation", splits.validation))
    }  # fmt: skip
    some = replace(splits, train=drawn["train"], validation=drawn["validation"], test=None)
    return Drawn(parts, some, task, len(splits.train))


def rows_of(
    cfg: DictConfig, choice: Alternative, drawn: Drawn, depths: int
) -> list[tuple[Row, Solved]]:
    """Probe one backbone.

    Args:
        cfg: A config with the backbone.
        choice: The overrides that choose it.
        drawn: What it is probed on.
        depths: At how many depths.

    Returns:
        A row and what was computed for each place in it.
    """
    import keras

    from kerasft.data.preprocessing import prepare_splits
    from kerasft.model.fast import at_rest

    backbone = prepare.load_backbone(cfg, drawn.splits)
    stores = prepare_splits(drawn.splits.parts, backbone.preprocess, drawn.parts.cache)
    lengths = stores["train"].lengths
    positions = 1.0 if lengths is None else float(lengths.mean())
    places = _places(backbone, 1 if any((cfg.surgery or {}).values()) else depths, positions)
    pooling = solving.pooling_of(plain(cfg.head))
    vectors = {
        f"depth_{i}": solving.pooled(backbone, pooling, tap) for i, (_, tap) in enumerate(places)
    }
    model = keras.Model(backbone.network.input, vectors)
    with at_rest(model):
        features = solving.compute(
            model, stores, drawn.parts.cache, batch_size=eval_batch_size(cfg), about=cfg.name
        )
        times = [
            _milliseconds(keras.Model(backbone.network.input, vector), stores["validation"])
            for vector in vectors.values()
        ]
    annotations = {name: part.annotations for name, part in drawn.splits.parts.items()}
    cut_short = _cut_short(backbone, drawn.splits.train.inputs, lengths)
    made = []
    for (layer, tap), name, time_ in zip(places, vectors, times, strict=True):
        solved = solving.solve(
            drawn.task, drawn.splits.labels,
            {split: outputs[name] for split, outputs in features.items()}, annotations,
            seed=cfg.seed,
        )
        figures = solved.figures("validation")
        if not (metric := solving.headline(drawn.task, figures)):
            raise UserError(
                "these validation examples have none of the figures that the task is judged by, "
                f"{', '.join(drawn.task.headlines)}: they may all have one label."
            )
        low, high = solved.interval("validation", metric) or (None, None)
        made.append((
            Row(choice.own, backbone.name, layer, tap.share, float(figures[metric]), low, high,
                time_, tap.weights * 4 / 1e6, cut_short, backbone.pretrained,
                solved.linear.strength),
            solved,
        ))  # fmt: skip
    return made


def _places(backbone: Backbone, depths: int, positions: float) -> list[tuple[str | None, Any]]:
    """Return places in a backbone, each with the layer that surgery would cut at."""
    from kerasft.model.assemble import features_of
    from kerasft.model.layers import ImageNetwork
    from kerasft.model.surgery.operated import Graph
    from kerasft.model.surgery.places import meant
    from kerasft.training.taps import taps

    features = features_of(backbone)
    if features.sequence is None:
        raise UserError(features.missing)
    *before, end = taps(backbone.network, features.sequence, depths, positions=positions)
    network = backbone.network
    graph = Graph(network.network if isinstance(network, ImageNetwork) else network)
    found: list[tuple[str | None, Any]] = []
    for tap in before:
        path = graph.names.get(id(tap.operation))
        if path is not None and len(meant(graph, path)) == 1:
            found.append((path, tap))
    return [*found, (None, end)]


def _milliseconds(model: keras.Model, store: Store) -> float:
    """Return what an example takes in a network at rest, in batches of 32."""
    import tensorflow as tf

    from kerasft.data.pipeline import in_one_pass

    few = store.take(np.arange(min(TIMED, len(store))))
    data, order = in_one_pass(few, 32)
    function = tf.function(lambda batch: model(batch, training=False), autograph=False)
    function.get_concrete_function(data.element_spec)
    batches = list(data)
    for batch in batches:
        function(batch)
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for batch in batches:
            function(batch).numpy()
        took.append(time.perf_counter() - began)
    return min(took) / len(order) * 1e3


def _cut_short(
    backbone: Backbone, inputs: Sequence[Any], lengths: np.ndarray | None
) -> float | None:
    """Return which share of texts is longer than the network takes, `None` for images."""
    from kerasft.model.text.tokens import cuts

    preprocess: Any = backbone.preprocess
    if lengths is None or not takes_texts(preprocess) or (cut := cuts(preprocess)) is None:
        return None
    full = np.flatnonzero(lengths >= preprocess.sequence_length)
    if not len(full):
        return 0.0
    some = full[np.unique(np.linspace(0, len(full) - 1, min(len(full), LOOKED_AT)).astype(int))]
    share = float((cut.counts([inputs[i] for i in some]) > 0).mean())
    return share * len(full) / len(lengths)


def _concluded(
    found: Sequence[tuple[Alternative, Row, Solved]], drawn: Drawn, left_out: dict[str, str],
    *, in_memory_data: bool, options: Sequence[str],
) -> Probed:
    """Order the rows, and choose one."""
    first = found[0][2]
    metric = solving.headline(drawn.task, first.figures("validation"))
    sign = 1 if direction(metric) == "max" else -1
    ordered = sorted(found, key=lambda one: -sign * one[1].figure)
    by_backbone: dict[tuple[str, ...], list[tuple[Alternative, Row, Solved]]] = {}
    for one in ordered:
        by_backbone.setdefault(one[0].overrides, []).append(one)
    choice, row, _ = max(
        (deep_enough(rows, metric) for rows in by_backbone.values()),
        key=lambda one: sign * one[1].figure,
    )
    overrides = list(choice.overrides)
    if row.layer is not None:
        overrides += ["surgery=cut", f"surgery.cut.layer={row.layer}"]
    command = f"kerasft.train({overrides!r}, data=DATA)" if in_memory_data else shlex.join(
        ["kerasft", "train", *overrides, *options]
    )
    return Probed(
        metric, tuple(row for _, row, _ in ordered), left_out, len(drawn.splits.train),
        len(drawn.splits.validation), row, tuple(overrides), command,
    )


def deep_enough(
    rows: Sequence[tuple[Alternative, Row, Solved]], metric: str
) -> tuple[Alternative, Row, Solved]:
    """Return all of a backbone, or a part of it where that is better by more than chance."""
    best = rows[0]
    whole = next(one for one in rows if one[1].layer is None)
    pair = [
        right(one[2].task, one[2].labels, metric, one[2].statistics["validation"])
        for one in (best, whole)
    ]  # fmt: skip
    if pair[0] is not None and pair[1] is not None:
        return best if mcnemar(pair[0], pair[1]) < LIKELY else whole
    low, high = best[1].low, best[1].high
    apart = low is not None and high is not None and not low <= whole[1].figure <= high
    return best if apart else whole


def _options(config_dirs: Sequence[str], trusted: Sequence[str]) -> list[str]:
    return [
        *(word for one in config_dirs for word in ("--config-dir", one)),
        *(word for one in trusted for word in ("--trust", one)),
    ]


def run(options: Any) -> None:
    """Run the command, of its options."""
    probe(
        options.overrides, backbones=[shlex.split(one) for one in options.backbone],
        size=options.size, depths=options.depths, output=options.output,
        config_dirs=options.config_dir, trusted=options.trust,
    )
