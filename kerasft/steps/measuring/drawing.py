"""Draws what was found in the images or texts of a split, the worst answers first."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.errors import some
from kerasft.evaluation import box_errors
from kerasft.raw_input import values_of
from kerasft.runs import answer_files, records, run_folder
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Examples
from kerasft.system.console import say
from kerasft.system.files import written_whole

# Images in the drawing of a split; of masks, each of which takes a row.
DRAWN, DRAWN_MASKS = 12, 8
# Texts on the page of a split.
DRAWN_TEXTS = 200


def draw(
    part: Examples, finetuned: FineTuned, statistics: Mapping[str, np.ndarray],
    folder: run_folder.RunFolder, split: str, *, plots: bool,
) -> None:
    """Draw the images or texts of a split that were answered worst, where answers lie in them.

    Objects that were found where nothing is annotated are listed, too.

    Args:
        part: The examples.
        finetuned: The model.
        statistics: What each of them adds to the figures.
        folder: The run folder.
        split: The name of the split.
        plots: Whether to draw; the list is written all the same.
    """
    home = folder.path / "predictions"
    objects = records.hold_objects(home, split)
    if objects and part.modality != "text":
        _list_unannotated(records.each(home, split), home / f"{split}_unannotated.csv")
    if not plots:
        return
    if objects and part.modality == "text":
        draw_sentences(part, finetuned, statistics, folder, split)
    elif objects:
        draw_objects(part, finetuned.labels.names, folder, split)
    draw_masks(part, finetuned, statistics, folder, split)


def draw_masks(
    part: Examples, finetuned: FineTuned, statistics: Mapping[str, np.ndarray],
    folder: run_folder.RunFolder, split: str,
) -> None:
    """Draw the images whose masks were answered worst: as they are, the truth, the answer."""
    name = next((n for n, rule in finetuned.rules.items() if rule.rule == "pixels"), None)
    if name is None or "mask" not in part.annotations:
        return
    from kerasft.evaluation.images import grid, legend, opened, overlaid

    names = finetuned.labels.names
    worst = np.argsort(_figures(finetuned, statistics, len(part)), kind="stable")[:DRAWN_MASKS]
    answered = finetuned([part.inputs[i] for i in worst])[name]
    images = []
    for i, png in zip(worst, answered, strict=True):
        image = opened(part.inputs[i])
        true = values_of(part.annotations["mask"][i])
        images += [image, overlaid(image, true, names), overlaid(image, values_of(png), names)]
    words = "left: the image; middle: the truth; right: the answer"
    grid(images, folder.plots / f"{split}_masks.png", below=legend(names, words))


def draw_sentences(
    part: Examples, finetuned: FineTuned, statistics: Mapping[str, np.ndarray],
    folder: run_folder.RunFolder, split: str,
) -> None:
    """Write the texts whose entities were answered worst as a page, truth and answer side by side.

    Those in which there is nothing, and nothing was found, come last.
    """
    from kerasft.evaluation import sentences

    home = folder.path / "predictions"
    figures = np.array(_figures(finetuned, statistics, len(part)))
    bare = np.array([not row["true"] and not row["predicted"]["objects"]
                     for row in records.each(home, split)])  # fmt: skip
    worst = np.lexsort([figures, bare])[:DRAWN_TEXTS]
    shown = [
        {"id": row["id"], "text": part.inputs[i], "true": row["true"],
         "found": row["predicted"]["objects"]}
        for i, row in zip(worst, records.at(home, split, worst), strict=True)
    ]  # fmt: skip
    sentences.write(shown, finetuned.labels.names, folder.plots / f"{split}_entities.html",
                    of=len(part))  # fmt: skip


def _figures(
    finetuned: FineTuned, statistics: Mapping[str, np.ndarray], count: int
) -> list[float]:
    """Return the figure that epochs are chosen by, of each example alone; worse ones are lower."""
    task = finetuned.task
    name, sign = task.monitor.removeprefix("val_"), 1.0 if task.mode == "max" else -1.0
    each = (
        task.figures({key: value[i : i + 1] for key, value in statistics.items()}, finetuned.labels)
        for i in range(count)
    )
    return [sign * one.get(name, np.inf) for one in each]


def draw_objects(
    part: Examples, names: Sequence[str], folder: run_folder.RunFolder, split: str
) -> None:
    """Draw the images whose objects were answered worst."""
    from kerasft.evaluation.images import grid, opened, outlined

    home = folder.path / "predictions"
    worst = np.argsort([-_miscounted(row) for row in records.each(home, split)], kind="stable")
    worst = worst[:DRAWN]
    images = [
        outlined(opened(part.inputs[i]), row["predicted"]["objects"], names, row["true"])
        for i, row in zip(worst, records.at(home, split, worst), strict=True)
    ]  # fmt: skip
    grid(images, folder.plots / f"{split}_objects.png")


def _list_unannotated(rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Write the objects that were found where nothing is annotated, the surest first."""
    found = [
        {"id": row["id"], "label": one["label"], "score": one["score"],
         **dict(zip(answer_files.SIDES, one["box"], strict=True))}
        for row in rows
        for one in box_errors.unannotated(row["predicted"]["objects"], row["true"])
    ]  # fmt: skip
    with written_whole(file) as part, open(part, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["id", "label", "score", *answer_files.SIDES])
        writer.writeheader()
        writer.writerows(sorted(found, key=lambda one: -one["score"]))
    if found:
        say(f"{some(len(found), 'object')} found where nothing is annotated, wrong or forgotten: "
            f"{file}")


def _miscounted(row: Mapping[str, Any]) -> int:
    """Return by how many objects an answer has too many or too few, class by class."""
    there, found = (
        Counter(one["label"] for one in objects if not one.get("ignored"))
        for objects in (row["true"], row["predicted"]["objects"])
    )
    return sum(abs(there[name] - found[name]) for name in there | found)
