"""Shows what the network sees of training examples: images on a sheet, texts as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.abilities import Windowing
from kerasft.data.pipeline import Batches
from kerasft.errors import UserError
from kerasft.spec import Modality, TextPreprocess, takes_texts
from kerasft.steps.looks.seen import Seen, first_of, seen
from kerasft.steps.preparing.prepare import Ready
from kerasft.system.console import say
from kerasft.system.files import written_whole
from kerasft.system.folders import output_problem

# Where images go unless the user says otherwise.
SHEET = "show.png"
ENDINGS: dict[Modality, str] = {"images": ".png", "text": ".txt"}
# Texts at the limit that are tokenized again to see how much they lose, and how many together.
SAMPLE, AT_ONCE = 4096, 512
# The most letters of a lost end that are shown.
LOST = 300


@dataclass(frozen=True)
class Wanted:
    """What is to be shown.

    Args:
        output: The file: `.png` for images, by default `show.png`; `.txt` for texts, which are
            printed too.
        epoch: The epoch, from 0, whose first examples and whose augmentation are shown.
        count: How many examples.
        views: In how many epochs, one after the other, the same images are shown.

    Raises:
        UserError: If there is nothing to show, or the file could not be written.

    Example:
        >>> Wanted(count=3).epochs
        range(0, 1)
    """

    output: str | None = None
    epoch: int = 0
    count: int = 12
    views: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"--{name} must be at least {least}. Received: {value}."
            for name, value, least in (
                ("epoch", self.epoch, 0), ("count", self.count, 1), ("views", self.views, 1),
            )
            if value < least
        ]  # fmt: skip
        told = ".png for images or .txt for texts"
        if problem := output_problem(self.output, tuple(ENDINGS.values()), told):
            problems.append(problem)
        if problems:
            raise UserError(problems=problems)

    @property
    def epochs(self) -> range:
        """The epochs that are shown."""
        return range(self.epoch, self.epoch + self.views)

    def check_fit(self, modality: Modality, *, changes: bool = True) -> None:
        """See that what is wanted can be had of such data.

        Args:
            modality: `"images"` or `"text"`.
            changes: Whether there is augmentation.

        Raises:
            UserError: If it cannot.
        """
        word = {"text": "texts", "images": "images"}[modality]
        ending = ENDINGS[modality]
        if self.output is not None and not self.output.endswith(ending):
            raise UserError(
                f"The data is {word}, for which --output must end in {ending}. Received: "
                f"{self.output!r}."
            )
        if self.views > 1 and modality == "text" and not changes:
            raise UserError(
                "--views shows what augmentation makes of an example, and without it texts are the "
                f"same in each epoch. Leave it out, or choose augment=text. Received: {self.views}."
            )


def show(ready: Ready, wanted: Wanted) -> Path | None:
    """Draw or print the first examples of an epoch.

    Args:
        ready: The data.
        wanted: What is to be shown.

    Returns:
        The file that was written, or `None`.
    """
    if takes_texts(ready.preprocess):
        return show_texts(ready, ready.preprocess, wanted)
    return show_images(ready, wanted)


def show_images(ready: Ready, wanted: Wanted) -> Path:
    """Draw images as they are in one or several epochs, with what is learned of them."""
    from kerasft.evaluation import contact_sheet

    chosen = first_of(ready.batches, wanted.epoch, wanted.count)
    names, ids = ready.splits.labels.names, ready.splits.train.ids
    views = [seen(ready, epoch, chosen) for epoch in wanted.epochs]
    cells = [
        cell(view[index], names, ids[index] + (f", epoch {epoch}" if wanted.views > 1 else ""))
        for index in chosen
        for epoch, view in zip(wanted.epochs, views, strict=True)
    ]
    columns = wanted.views if wanted.views > 1 else None
    path = contact_sheet.draw(cells, names, wanted.output or SHEET, columns=columns)
    images = f"{len(chosen):,} {'image' if len(chosen) == 1 else 'images'}"
    epochs = f"epoch {wanted.epoch}"
    if wanted.views > 1:
        epochs = f"epochs {wanted.epochs[0]} to {wanted.epochs[-1]}, a row each"
    say(f"{images} in {epochs}: {path}")
    if wanted.views > 1 and ready.batches.augment is None:
        say("augment=none: an image is the same in each epoch")
    return path


def cell(one: Seen, names: Sequence[str], note: str) -> Any:
    """Return an image with what is drawn on it."""
    from kerasft.evaluation.contact_sheet import Cell

    targets = one.targets
    objects: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    if "boxes" in targets and "labels" in targets:
        ignored = targets.get("ignored", np.zeros(len(targets["labels"]), bool)).astype(bool)
        for box, label, left_out in zip(targets["boxes"], targets["labels"], ignored, strict=True):
            if label >= 0:  # others pad, or augmentation took them out of the image
                objects[bool(left_out)].append({"label": names[int(label)], "box": box.tolist()})
    mask = targets.get("segmentation_masks")
    return Cell(
        one.inputs["images"], one.words, note, objects[False], objects[True],
        None if mask is None else mask[..., 0],
    )  # fmt: skip


def show_texts(ready: Ready, preprocess: TextPreprocess, wanted: Wanted) -> Path | None:
    """Print texts as tokens, what is cut off of each, and how many training texts are cut."""
    from kerasft.model.text.tokens import cuts, marked, reader

    batches, train = ready.batches, ready.splits.train
    read, cut = reader(preprocess.tokenizer), cuts(preprocess)
    left = first_of(batches, wanted.epoch, wanted.count)
    views = {epoch: seen(ready, epoch, left) for epoch in wanted.epochs}
    lines: list[str] = []
    step = wanted.epoch * batches.steps
    while left:
        here = set(map(int, batches.order.batch(step)[1]))
        shown, left = [i for i in left if i in here], [i for i in left if i not in here]
        lines.append(_about_batch(batches, preprocess, step, len(shown)))
        for index, (epoch, view) in product(shown, views.items()):
            one = view.get(index)
            if one is None:  # sampling has left it out
                continue
            tokens = _tokens(one.inputs, preprocess.pad).tolist()
            padding = len(one.inputs["token_ids"]) - len(tokens)
            length = f"{len(tokens)} tokens" + (f" and {padding} of padding" if padding else "")
            name = train.ids[index] + (f", epoch {epoch}" if wanted.views > 1 else "")
            lines += ["", f"{name}: {one.words}; {length}"]
            text = train.inputs[index]
            if batches.augment is not None:
                text = batches.augment.text(epoch, one.number)
                said = "changed" if text != train.inputs[index] else "as it is"
                parts = [text] if isinstance(text, str) else text
                lines += [f"  {said}: {part}" for part in parts]
            lines.append(f"  {marked(read, tokens, one.targets.get('learned'))}")
            for place, lost in enumerate(cut.lost(text, tokens) if cut else []):
                if lost:
                    end = f"the end of text {place + 1}" if preprocess.pair else "the end"
                    lines.append(
                        f"  cut from {end}, {_counted(len(lost))}: [{_shortened(read(lost))}]"
                    )
        lines.append("")
        step += 1
    if cut is not None:
        lines.append(_about_cuts(ready, preprocess, cut))
    for line in lines:
        say(line)
    if wanted.output is None:
        return None
    with written_whole(wanted.output) as part:
        part.write_text("".join(f"{line}\n" for line in lines), "utf-8", "backslashreplace")
    return Path(wanted.output)


def _about_batch(batches: Batches, preprocess: TextPreprocess, step: int, shown: int) -> str:
    epoch, indices = batches.order.batch(step)
    rows, *_ = next(iter(batches.examples([step]).as_numpy_iterator()))
    width = rows["token_ids"].shape[1]
    tokens = sum(
        len(_tokens({name: value[place] for name, value in rows.items()}, preprocess.pad))
        for place in range(len(indices))
    )
    more = f"; the first {shown}" if shown < len(indices) else ""
    return (
        f"epoch {epoch}, batch {step % batches.steps + 1:,} of {batches.steps:,}: "
        f"{len(indices)} {'text' if len(indices) == 1 else 'texts'}, {width} positions wide, "
        f"{1 - tokens / (len(indices) * width):.0%} of them padding{more}"
    )


def _tokens(inputs: Mapping[str, np.ndarray], pad: int) -> np.ndarray:
    """Return the tokens of a row without its padding."""
    ids = inputs["token_ids"]
    if "padding_mask" in inputs:
        return ids[inputs["padding_mask"].astype(bool)]
    real = np.flatnonzero(ids != pad)
    return ids[: real[-1] + 1 if len(real) else 1]


def _about_cuts(ready: Ready, preprocess: TextPreprocess, cut: Any) -> str:
    """Say how many training texts are cut; only those at the limit are tokenized again."""
    store, limit = ready.batches.store, preprocess.sequence_length
    assert store.lengths is not None
    full = np.flatnonzero(store.lengths >= limit)
    # Spread over the data, not its first part, which may be sorted.
    some = full[np.unique(np.linspace(0, len(full) - 1, min(len(full), SAMPLE)).astype(int))]
    inputs = ready.splits.train.inputs
    counts = [cut.counts([inputs[i] for i in some[j : j + AT_ONCE]])
              for j in range(0, len(some), AT_ONCE)]  # fmt: skip
    lost = np.concatenate([*counts, np.zeros(0, "int64")])
    lost = lost[lost > 0]
    task, hint = ready.task, ""
    at = f"backbone.sequence_length={limit}"
    if isinstance(task, Windowing):
        if task.windows == 1:
            hint = "; task.windows=4, say, would read up to four times as much"
        else:
            at = f"{limit}, the most tokens of task.windows={task.windows}"
    if not len(lost):
        return f"no training text is cut at {at}"
    number = round(len(lost) * len(full) / len(some))
    about = "about " if len(some) < len(full) else ""
    return (
        f"{about}{number:,} of {len(store):,} training texts ({number / len(store):.1%}) are cut "
        f"at {at}, and lose a median of {_counted(round(float(np.median(lost))))}{hint}"
    )


def _counted(tokens: int) -> str:
    return f"{tokens:,} {'token' if tokens == 1 else 'tokens'}"


def _shortened(text: str) -> str:
    """Leave out the middle of what is long."""
    if len(text) <= LOST:
        return text
    return f"{text[: LOST * 2 // 3]} ... {text[-LOST // 3 :]}"
