"""Data sets of TensorFlow Datasets, by name or from a folder in which one was prepared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.data.annotations import kinds
from kerasft.data.annotations.drawn import foreign_settings
from kerasft.data.collection import Collection, to_splits
from kerasft.data.gathered import Gathered
from kerasft.data.hidden import shown_splits
from kerasft.data.images.audit import MAX_PIXELS, audit, check_policy
from kerasft.data.images.held import HeldImages, as_inputs
from kerasft.data.kept_splits import read_from
from kerasft.data.paths import find_path, read_label_names
from kerasft.data.sources import tfds_annotated
from kerasft.data.sources.tfds_features import (
    Leaf,
    find,
    is_image,
    learned_by,
    names_of,
)
from kerasft.data.sources.tfds_prepared import Prepared, files_of, open_prepared
from kerasft.data.tables.short_floats import shortest
from kerasft.errors import UserError
from kerasft.spec import Splits
from kerasft.system.console import listing
from kerasft.system.files import current

# The feature that is predicted where the user names none.
LABEL = "label"


def _read_by(
    name: str, *, data_dir: str | None = None, label_names: object = None, **_others: object
) -> list[Path] | None:
    """Return the files that are read; `None` where these are not known."""
    found = files_of(name, data_dir)
    if found is not None and isinstance(label_names, str):
        found.append(find_path(label_names, "data.label_names", beside=current() or Path()))
    return found


@read_from(_read_by)
def tfds(
    name: str,
    *,
    kind: str,
    seed: int,
    data_dir: str | None = None,
    input: str | None = None,
    text_pair: str | None = None,
    label: str = LABEL,
    boxes: str | None = None,
    masks: str | None = None,
    classes: list[str] | dict[Any, str] | str | None = None,
    ignore: int | str | list[Any] | None = None,
    label_names: list[str] | str | None = None,
    label_delimiter: str | None = None,
    train: str = "train",
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    orientation: str = "auto",
) -> Splits:
    """Read a data set of TensorFlow Datasets; images stay encoded; many are held in a file.

    Features within others have names such as `objects/bbox`. Boxes that are marked as crowds, as
    difficult, as groups or as invalid (`is_crowd`, `is_difficult`, `is_group_of`, `invalid`) are
    regions in which nothing is learned and nothing counts.

    Args:
        name: Its name, such as `"beans"` or `"glue/sst2"`, or the folder in which it was
            prepared (the one with `dataset_info.json`, or one above it).
        kind: `"single"`, `"multi"`, `"number"`, `"numbers"`, `"boxes"` or `"masks"`.
        seed: Another seed, another split.
        data_dir: Where data sets by name are kept; `~/tensorflow_datasets` without.
        input: The feature to read, an image or a text; found by itself where only one fits.
        text_pair: The feature of second texts, where an example is a pair.
        label: The feature to predict. For boxes the class of each, beside them (`label` is
            `objects/label`), or that of the image; found by itself where only one fits.
        boxes: The feature with the boxes, for kind `"boxes"`; found by itself where only one fits.
        masks: The feature with the class of each pixel, for kind `"masks"`; the same.
        classes: What the values of masks mean, where the data set does not say it: a list of names
            for 0, 1, 2, ...; a file with one a line; or a name for each value.
        ignore: A value of masks, or several, that is neither learned nor counted.
        label_names: The class names in order, where the data set does not bring them, as a list
            or as a file with one a line. Where boxes have no class, the one name of all.
        label_delimiter: What separates several labels within one text, if anything does.
        train: The split to train on, as TFDS writes it (`"train"`, `"train[:80%]"`).
        validation: The part of the training examples to validate on, where the data brings no
            such split; or a split as TFDS writes it.
        test: The same for the test; 0 for none.
        split: `"stratified"` or `"hash"`, where a split is made by ratio.
        broken: `"skip"` leaves out images that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.
        orientation: What boxes and masks of images with an EXIF orientation are drawn on: the
            image as it is `"seen"`, as it is `"stored"`, or `"auto"` what the size of a mask
            tells.

    Returns:
        `Splits` of encoded images, or of texts.

    Raises:
        UserError: If the data is neither prepared nor to be had, or if a feature or a split is
            not in it.

    Example:

    >>> tfds("beans", kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    _check_kind(
        kind, {"boxes": boxes}, {"masks": masks, "classes": classes, "ignore": ignore},
        {"text_pair": text_pair, "label_names": label_names, "label": label},
    )  # fmt: skip
    prepared = open_prepared(
        name, data_dir, train=train, validation=validation, test=test, split=split
    )
    names = read_label_names(label_names, current() or Path())
    settings: dict[str, Any] = {"kind": kind, "seed": seed, "split": split}
    careful: dict[str, Any] = {"broken": broken, "max_pixels": max_pixels}
    if kinds.are_boxes(kind):
        return tfds_annotated.boxed(
            prepared, input=input, boxes=boxes, label=label, usual=LABEL, label_names=names,
            orientation=orientation, **settings, **careful,
        )  # fmt: skip
    if kinds.are_masks(kind):
        return tfds_annotated.masked(
            prepared, input=input, masks=masks, classes=classes, ignore=ignore,
            orientation=orientation, **settings, **careful,
        )  # fmt: skip
    chosen, is_image = _input(prepared, input, label)
    known = prepared.leaves
    columns = [find(known, chosen, "data.input", name), _label(prepared, label, kind, name)]
    if text_pair:
        columns.append(find(known, text_pair, "data.text_pair", name))
    found = _collect(prepared, columns, kind, is_image=is_image)
    found, ratios = _labelled(prepared, found, kind)
    if is_image:
        kept, said = audit(found.inputs, found.ids, **careful)
        found = found.keep(kept)
        found.notices += said
    return to_splits(
        found, label_delimiter=label_delimiter,
        label_names=names or names_of(columns[1].feature), label_key=f"data.label={label}",
        source={
            "source": "tfds", "name": prepared.name, "splits": dict(prepared.wanted),
            "input": chosen, "label": label,
        },
        **settings, **ratios,
    )  # fmt: skip


def _check_kind(
    kind: str, boxes: Mapping[str, Any], masks: Mapping[str, Any], others: Mapping[str, Any]
) -> None:
    """Refuse settings that say nothing for a task: those of boxes, of masks, and of others."""
    problems = list(foreign_settings(kind, boxes=boxes, masks=masks))
    if kinds.are_drawn(kind) and others["text_pair"] is not None:
        problems.append(
            "data.text_pair is for texts, and this task learns from images. Received: "
            f"data.text_pair={others['text_pair']}. Leave it out."
        )
    if kinds.are_masks(kind) and others["label"] != LABEL:
        problems.append(
            "data.masks names the feature with the class of each pixel. Received: data.label="
            f"{others['label']}. Set data.masks={others['label']} instead."
        )
    if kinds.are_masks(kind) and others["label_names"] is not None:
        problems.append(
            "data.classes says what the values of masks mean. Received: data.label_names="
            f"{others['label_names']}. Set data.classes instead."
        )
    if problems:
        raise UserError(problems=problems)


def _label(prepared: Prepared, label: str, kind: str, where: str) -> Leaf:
    """Return the feature to predict, which is a class, or a number, or several."""
    drawn = learned_by(prepared.module, prepared.leaves)
    try:
        leaf = find(prepared.leaves, label, "data.label", where)
    except UserError as error:
        raise UserError(f"{error}{drawn}") from error
    features = prepared.module.features
    wrong = (features.Image,) if kinds.are_numbers(kind) else (
        features.Image, features.BBoxFeature)  # fmt: skip
    if isinstance(leaf.feature, wrong):
        raise UserError(
            f"data.label must be what is said of a whole example. Received: data.label={label}, a "
            f"{type(leaf.feature).__name__}.{drawn}"
        )
    return leaf


def _labelled(
    prepared: Prepared, found: Collection, kind: str
) -> tuple[Collection, dict[str, Any]]:
    """Leave out splits that hide their labels, as tests do: TFDS writes -1 for each."""
    shown = shown_splits(found.brought, found.values, kind)
    ratios, said = prepared.ratios(found.brought, shown, "a label (all -1)")
    found.notices += said
    return found.keep([i for i, name in enumerate(found.brought) if name in shown]), ratios


def _input(prepared: Prepared, chosen: str | None, label: str) -> tuple[str, bool]:
    """Return the name of the feature to read, and whether it is an image."""
    module = prepared.module
    are_images, seen = {}, []
    for name, leaf in prepared.leaves.items():
        if name == label or leaf.repeated:
            continue
        if isinstance(leaf.feature, module.features.Image):
            are_images[name] = True
            seen += [name] * is_image(module, leaf)
        elif isinstance(leaf.feature, module.features.Text):
            are_images[name] = False
    if chosen is None:
        images = [name for name, is_one in are_images.items() if is_one]
        fitting = seen or images or list(are_images)
        if len(fitting) != 1:
            raise UserError(
                "data.input must name the feature to read, an image or a text; "
                + (f"several fit: {listing(fitting, 20)}." if fitting else "none fits.")
                + f" The features: {listing(prepared.leaves, 30)}."
            )
        return fitting[0], are_images[fitting[0]]
    if chosen in prepared.leaves and chosen not in are_images:
        raise UserError(
            f"data.input must be an image or a text. Received: data.input={chosen}, a "
            f"{type(prepared.leaves[chosen].feature).__name__}. Those that fit: "
            f"{listing(are_images, 20)}."
        )
    return chosen, are_images.get(chosen, False)


def _collect(
    prepared: Prepared, columns: list[Leaf], kind: str, *, is_image: bool
) -> Collection:
    """Return the examples, each with its input and its raw label."""
    images = HeldImages()
    with Gathered(
        "images" if is_image else "text", kind=kind, pair=len(columns) > 2
    ) as gathered:
        for split, place, (content, value, *more) in prepared.read(columns, columns[:is_image]):
            if is_image:
                content = images.keep(content)
            else:
                texts = [text.decode("utf-8") for text in (content, *more)]
                content = tuple(texts) if more else texts[0]
            gathered.add(split, prepared.wanted[split], place, content, _plain(value))
    found = gathered.made()
    if is_image:
        found.inputs = as_inputs(found.inputs)
    return found


def _plain(value: Any) -> Any:
    """Return a number or list of numpy as Python's."""
    if not hasattr(value, "tolist"):
        return value
    narrow = str(value.dtype) if str(value.dtype) in ("float16", "float32") else None
    return shortest([value.tolist()], narrow)[0] if narrow else value.tolist()
