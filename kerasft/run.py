"""The acts, from train to export, each in the order of the flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.config import checks
from kerasft.config.checks import settle
from kerasft.distributed.group import current
from kerasft.runs import run_folder
from kerasft.runs.result import Result
from kerasft.steps.advice import backbone_choice, beforehand, diagnosing
from kerasft.steps.answers import answering, asked, exporting, predicting
from kerasft.steps.costs import afterwards, memory
from kerasft.steps.fitting import fit, floor
from kerasft.steps.looks import showing
from kerasft.steps.measuring import measure, reopening
from kerasft.steps.preparing import adapting, devices, in_memory, prepare
from kerasft.steps.preparing.exports import check_network
from kerasft.system.console import say, without_chatter


@without_chatter()
def check(
    cfg: DictConfig, *, trusted: Sequence[str] = (), origin: Callable[[str], str] | None = None
) -> None:
    """Check a composed config and report everything that is wrong with it at once.

    Args:
        cfg: The composed config.
        trusted: Further import prefixes that a `_target_` may start with. They never come from a
            config file: whoever writes the file would be trusting himself.
        origin: Names the file or override that set a key, for messages.

    Raises:
        UserError: With one message for each problem; of figures that are watched and that the task
            has not, where there is no other.

    Example:
        >>> from kerasft import compose
        >>> check(compose(["head=mlp"]))
    """
    checks.check(cfg, trusted=trusted, origin=origin)
    prepare.require_monitors(cfg)


@without_chatter()
def train(
    config: Any = (), *, data: Any = None, config_dirs: Sequence[str] = (),
    trusted: Sequence[str] = (),
    on_epoch: Callable[[int, dict[str, float]], None] | None = None, spare_test: bool = False,
) -> Result:
    """Fine-tune a pretrained network.

    Args:
        config: A list of overrides as on the command line, or a composed config.
        data: Examples in memory, in place of a source in the config: a pandas or polars DataFrame,
            a `pyarrow.Table`, a `Dataset` of Hugging Face, a dict of columns, a pair (inputs,
            labels), a finite `tf.data.Dataset`, or a dict of these by split. `data.text`,
            `data.image` and `data.label` name its columns.
        config_dirs: Folders with configs of your own.
        trusted: Import prefixes, beside the built-in ones, that a `_target_` may start with.
        on_epoch: Told of each epoch, counted from 1, and of its figures; what raises
            `kerasft.errors.Pruned` ends the run there.
        spare_test: Whether the test split is not looked at: of many runs, the chosen one alone
            should be measured on it.

    Returns:
        A `Result`.

    Raises:
        UserError: For any mistake in the config or the data.

    Example:
        >>> result = train(["epochs=6", "baseline=null"])  # doctest: +ELLIPSIS
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        ...
        >>> result.metrics["test"]["accuracy"] > 0.5
        True
    """
    cfg = settle(in_memory.reading(config, data, config_dirs), config_dirs, trusted)
    prepare.check_exports(cfg)
    carry_out = partial(_carry_out, on_epoch=on_epoch, spare_test=spare_test)
    with devices.forming(cfg), in_memory.holding(cfg, data):
        began = devices.settle(cfg, partial(beforehand.settle, budgeted=True))
        folder = replace(devices.folder_of(cfg, lambda: run_folder.create(cfg)), began=began)
        return memory.until_it_fits(carry_out, cfg, folder)


@without_chatter()
def resume(
    run: str, *, data: Any = None, verify: bool = False, accept: bool = False,
    trusted: Sequence[str] = (),
) -> Result:
    """Go on with a run that was stopped or crashed, from its last checkpoint.

    On the same machine it ends as it would have without the interruption, to the last bit.

    Args:
        run: The run folder.
        data: The same examples again, where the run began with some in memory.
        verify: Whether the steps between the last two checkpoints are done again first, and must
            give the same state.
        accept: Whether to go on though the data has changed.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        A `Result`.

    Raises:
        UserError: If the run has ended, its data has changed, another process works on it, or the
            steps that were done again gave another state.

    Example:
        >>> resume("outputs/last")  # doctest: +SKIP
    """
    folder, cfg = run_folder.reopen(run, accept=accept)
    with folder.at_its_command():
        checks.check(cfg, trusted=trusted)
    with devices.forming(cfg), in_memory.holding(cfg, data):
        folder = devices.folder_of(cfg, lambda: folder)
        return memory.until_it_fits(partial(_carry_out, verify=verify), cfg, folder)


def _carry_out(
    cfg: DictConfig, folder: run_folder.RunFolder, *, verify: bool = False, on_epoch: Any = None,
    spare_test: bool = False,
) -> Result:
    """Go through all the steps of a run; training goes on from a checkpoint where there is one."""
    with (
        folder.recording(cfg), folder.at_its_command(), prepare.runtime(cfg),
        memory.noticed(cfg), current().noticed(),
    ):
        parts = prepare.cheap_parts(cfg)
        with prepare.watched(parts, folder):
            splits = prepare.read_data(cfg, parts, folder)
            backbone = prepare.load_backbone(cfg, splits)
            check_network(cfg, parts.task, backbone.network)
            ready = prepare.make_ready(cfg, parts, splits, backbone, spare_test=spare_test)
        floors = floor.compute(cfg, parts, ready, backbone, spare_test=spare_test)
        model, history = fit.fit(
            cfg, parts, ready, backbone, folder, verify=verify, on_epoch=on_epoch
        )
        if not folder.leads:
            return Result(folder.path, {}, history, None)
        finetuned, kept = measure.finalize(cfg, ready, model, folder)
        measured = measure.measure(finetuned, ready, kept, folder, spare_test=spare_test)
        adapting.merge(finetuned, folder)
        measure.draw(history, finetuned, ready, measured, folder, plots=cfg.plots)
        baseline = fit.train_baseline(cfg, parts, ready, splits, folder)
        found = diagnosing.examine(cfg, finetuned, ready, folder)
        held = measure.report(
            history, finetuned.task, measured.metrics, baseline, folder, found,
            partial(floor.tell, floors, finetuned.task, measured, folder),
        )
        exports = exporting.export(cfg.export, cfg, finetuned, folder)
    return Result(folder.path, measured.metrics, history, finetuned, baseline, exports, held)


@without_chatter()
def plan(
    config: Any = (), *, data: Any = None, config_dirs: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> list[Any]:
    """Measure a few steps of each stage, and tell what `train` would cost. Nothing is trained.

    Args:
        config: See `train`, as `data`, `config_dirs` and `trusted`.

    Returns:
        A `kerasft.steps.costs.plan.StagePlan` a stage.

    Raises:
        UserError: For any mistake in the config or the data.

    Example:
        >>> plans = plan(["finetune=two_phase"])  # doctest: +ELLIPSIS
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        Measuring the result takes another ... s or so
        >>> [(stage.name, stage.steps) for stage in plans]
        [('head', 12), ('all', 60)]
    """
    cfg = settle(in_memory.reading(config, data, config_dirs), config_dirs, trusted)
    prepare.require_monitors(cfg)
    with in_memory.holding(cfg, data):
        beforehand.settle(cfg)
    with prepare.runtime(cfg), in_memory.holding(cfg, data):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        plans, after = afterwards.measure(cfg, parts, ready, backbone)
        say(after.told())
        return plans


@without_chatter()
def trainable(
    config: Any = (), *, data: Any = None, config_dirs: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> dict[str, list[Any]]:
    """Print what trains in each stage, how fast, and how it is held back. Nothing is trained.

    Args:
        config: See `train`, as `data`, `config_dirs` and `trusted`.

    Returns:
        By stage, a `kerasft.training.trainability.Part` a row.

    Raises:
        UserError: For any mistake in the config or the data, rules that match nothing among them.

    Example:
        >>> found = trainable(["finetune=linear_probe"])  # doctest: +ELLIPSIS
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        ...
        >>> [part.name for part in found["probe"] if part.trains]
        ['head_outputs']
    """
    cfg = settle(in_memory.reading(config, data, config_dirs), config_dirs, trusted)
    prepare.require_monitors(cfg)
    with in_memory.holding(cfg, data):
        backbone_choice.settle(cfg)
    with prepare.runtime(cfg), in_memory.holding(cfg, data):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        return fit.trainable(cfg, parts, splits, prepare.load_backbone(cfg, splits))


@without_chatter()
def show(
    config: Any = (), *, data: Any = None, output: str | None = None, epoch: int = 0,
    count: int = 12, views: int = 1, config_dirs: Sequence[str] = (), trusted: Sequence[str] = (),
) -> Path | None:
    """Show what the network sees of training examples, and what it learns of them.

    Images are drawn as augmentation leaves them, with classes, boxes or masks. Texts are printed
    as tokens, with what is cut off. Nothing is trained, and no weights are loaded.

    Args:
        config: See `train`, as `data`, `config_dirs` and `trusted`.
        output: The file: `.png` for images, by default `show.png`; `.txt` for texts.
        epoch: The epoch, from 0, whose first examples and whose augmentation are shown.
        count: How many examples.
        views: In how many epochs, one after the other, the same images are shown.

    Returns:
        The file that was written; `None` where texts were only printed.

    Raises:
        UserError: For any mistake in the config, the data, or what is asked for.

    Example:
        >>> show(["augment=light"], count=6, views=3).name
        data: 50 train, 200 validation, 1,547 test; 10 classes (0, 1, 2, 3, 4, 5, ...)
        6 images in epochs 0 to 2, a row each: show.png
        'show.png'
    """
    wanted = showing.Wanted(output, epoch, count, views)
    cfg = settle(in_memory.reading(config, data, config_dirs), config_dirs, trusted)
    with in_memory.holding(cfg, data):
        backbone_choice.settle(cfg)
    with prepare.runtime(cfg), in_memory.holding(cfg, data):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        wanted.check_fit(splits.train.modality, changes=bool(parts.augment))
        backbone = prepare.load_backbone(cfg, splits, pretrained=False)
        return showing.show(prepare.make_ready(cfg, parts, splits, backbone), wanted)


@without_chatter()
def evaluate(
    run: str, *, data: Any = None, split: str | None = None,
    slices: str | Sequence[str | int] | None = None, trusted: Sequence[str] = (), say: Any = say,
) -> dict[str, dict[str, Any]]:
    """Measure a run again on its data.

    Args:
        run: The run folder.
        data: The same examples again, where the run learned from some in memory.
        split: `"train"`, `"validation"` or `"test"`; by default validation and test.
        slices: Columns of the data by whose values figures are told apart, in place of those that
            the run was given; `[]` for none.
        trusted: Import prefixes that the run's own parts may come from.
        say: Prints a line.

    Returns:
        Figures by split, and in `slices` those of each slice.

    Raises:
        UserError: If the folder is no whole run, its data is gone, or there is no such column.
    """
    folder, finetuned, cfg = reopening.reopen(run, trusted, slices=slices)
    with folder.at_its_command(), prepare.runtime(cfg), in_memory.holding(cfg, data):
        splits = reopening.read_data(cfg, folder)
        return reopening.measure_splits(cfg, finetuned, splits, split, say)


@without_chatter()
def predict(
    run_or_export: str, inputs: object, *, trusted: Sequence[str] = (),
    on_broken: Callable[[str], None] | None = None, generate: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Answer raw input with a run folder or with an exported SavedModel.

    Args:
        run_or_export: The folder of either.
        inputs: A list, an array or a column of a frame: texts, pairs of texts, or images (paths,
            encoded bytes, arrays of pixels, images of Pillow).
        trusted: Import prefixes that the run's own parts may come from.
        on_broken: Told of each image that cannot be decoded, in a sentence; the others are
            answered. Without, the first such image is an error.
        generate: How a language model writes: `max_new`, `temperature`, `top_p`, ...

    Returns:
        One dict an input: `input`, and the task's answers (`label`, `score`, `probabilities` by
        class; `labels` for several; `value` for a number).

    Raises:
        UserError: If the folder is neither, or an input cannot be read.

    Example:
        >>> predict("outputs/last", ["image.png"])[0]["label"]  # doctest: +SKIP
    """
    answer = answering.writing(answering.open_predictor(run_or_export, trusted), generate)
    inputs = answering.inputs_for(answer, inputs)
    if on_broken is None or not answering.takes_images(answer):
        return answering.answers(answer(inputs), inputs, answer)
    outputs, answered = answering.answer_sound(answer, inputs, on_broken)
    return answering.answers(outputs, answered, answer)


@without_chatter()
def predict_data(
    run_or_export: str, data: str, overrides: Sequence[str] = (), *, id: str | None = None,
    trusted: Sequence[str] = (),
) -> predicting.Answering:
    """Answer all rows of tables, or all images of a folder, a few at a time.

    Columns are those that the run has learned from; labels need not be there.

    Args:
        run_or_export: The folder of either.
        data: What training reads: a table, a pattern or a folder of tables; or a folder or zip of
            images.
        overrides: `data.KEY=VALUE`, where this table is written otherwise than that of the run.
        id: The column with the name of each row; by default the one called id, else the row's
            place in the file.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        What gives a dict for each, in order, when it is iterated: `id`, `input`, where it is known
        `true` and `true_probability`, the task's answers, and `error`: why there is no answer.

    Raises:
        UserError: If the data cannot be read, or no row of it can be answered.

    Example:
        >>> for row in predict_data("outputs/last", "test.csv"):  # doctest: +SKIP
        ...     print(row["id"], row["error"] or row["label"])
    """
    questions = asked.read(run_or_export, data, overrides, id, trusted)
    return predicting.Answering(answering.open_predictor(run_or_export, trusted), questions)


@without_chatter()
def export(
    run: str, overrides: Sequence[str] = (), *, trusted: Sequence[str] = ()
) -> dict[str, Path]:
    """Export a run for serving, and prove what was written.

    Args:
        run: The run folder.
        overrides: Overrides of the `export` group; `["export=saved_model"]` where none is given.
        trusted: Import prefixes that the run's own parts may come from.

    Returns:
        The folder of each export, by name.

    Raises:
        UserError: If the folder is no whole run, or the artifact disagrees with the model.
    """
    folder, finetuned, cfg = reopening.reopen(run, trusted)
    node = exporting.export_node(overrides, trusted)
    with prepare.runtime(cfg):
        return exporting.export(node, cfg, finetuned, folder)
