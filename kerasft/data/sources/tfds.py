"""Data sets of TensorFlow Datasets, by name or from a folder in which one was prepared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.data.collection import Collection, to_splits
from kerasft.data.paths import read_label_names
from kerasft.data.pictures.audit import MAX_PIXELS, audit, check_policy
from kerasft.data.sources.tfds_safety import (
    ForeignFeature,
    own_features_alone,
    require_inside,
    require_own,
)
from kerasft.data.splits import check_ratios, split_name
from kerasft.data.tables.short_floats import shortest
from kerasft.errors import UserError, nearest
from kerasft.spec import Splits
from kerasft.system.console import listing
from kerasft.system.files import current
from kerasft.system.folders import located
from kerasft.system.reachable import unreachable
from kerasft.system.tf_data import mapped


def tfds(
    name: str,
    *,
    kind: str,
    seed: int,
    data_dir: str | None = None,
    input: str | None = None,
    text_pair: str | None = None,
    label: str = "label",
    label_names: list[str] | str | None = None,
    label_delimiter: str | None = None,
    train: str = "train",
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Splits:
    """Read a data set of TensorFlow Datasets; pictures stay encoded, and are held in memory.

    Args:
        name: Its name, such as `"beans"` or `"glue/sst2"`, or the folder in which it was
            prepared (the one with `dataset_info.json`, or one above it).
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, another split.
        data_dir: Where data sets by name are kept; `~/tensorflow_datasets` without.
        input: The feature to read, a picture or a text; found by itself where only one fits.
        text_pair: The feature of second texts, where an example is a pair.
        label: The feature to predict.
        label_names: The class names in order, where the data set does not bring them, as a list
            or as a file with one a line.
        label_delimiter: What separates several labels within one text, if anything does.
        train: The split to train on, as TFDS writes it (`"train"`, `"train[:80%]"`).
        validation: The part of the training examples to validate on, where the data brings no
            such split; or a split as TFDS writes it.
        test: The same for the test; 0 for none.
        split: `"stratified"` or `"hash"`, where a split is made by ratio.
        broken: `"skip"` leaves out pictures that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that a picture may have.

    Returns:
        `Splits` of encoded pictures, or of texts.

    Raises:
        UserError: If the data is neither prepared nor to be had, or if a feature or a split is
            not in it.

    Example:

    >>> tfds("beans", kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"data=tfds needs TensorFlow Datasets ({error}). Install it: "
            'pip install tensorflow-datasets importlib_resources.'
        ) from error
    if not located(name).is_dir():
        require_own(name)
    with own_features_alone(tensorflow_datasets, name):
        builder = _builder(tensorflow_datasets, name, data_dir)
    require_inside(builder, name)
    wanted = _splits(builder, train, validation, test)
    ratios: dict[str, Any] = {
        n: (0.0 if n in wanted else value)
        for n, value in (("validation", validation), ("test", test))
    }
    check_ratios(ratios["validation"], ratios["test"], split, list(wanted))
    features = builder.info.features
    chosen, is_image = _input(tensorflow_datasets, features, input, label)
    columns = [chosen, label] + ([text_pair] if text_pair else [])
    for key, column in zip(("data.input", "data.label", "data.text_pair"), columns, strict=False):
        if column not in features:
            raise UserError(
                f"{key}: {name} has no feature {column!r}.{nearest(column, features)} Its "
                f"features: {listing(features, 30)}."
            )
    found = Collection("images" if is_image else "text", [], [], [], [], notices=[])
    for split_of, expression in wanted.items():
        _collect(tensorflow_datasets, builder, split_of, expression, columns, is_image, found)
    found = _labelled(
        found, features[label], ratios, {"validation": validation, "test": test}
    )  # fmt: skip
    if is_image:
        kept, said = audit(found.inputs, found.ids, broken=broken, max_pixels=max_pixels)
        found = found.keep(kept)
        found.notices += said
    return to_splits(
        found, kind=kind, seed=seed, split=split, label_delimiter=label_delimiter,
        label_names=read_label_names(label_names, current() or Path()) or _names(features[label]),
        label_key=f"data.label={label}", **ratios,
        source={
            "source": "tfds", "name": builder.info.full_name, "splits": wanted,
            "input": chosen, "label": label,
        },
    )  # fmt: skip


def _labelled(
    found: Collection, feature: Any, ratios: dict[str, Any], asked: Mapping[str, Any]
) -> Collection:
    """Leave out splits that hide their labels, as tests do: TFDS writes -1 for each."""
    if getattr(feature, "names", None) is None:
        return found
    shown = {n for n, value in zip(found.brought, found.values, strict=True) if value != -1}
    for name in sorted(set(found.brought) - shown):
        said = f"none of the {found.brought.count(name):,} examples of {name} has a label (all -1)"
        if name == "train" or isinstance(asked[name], str):
            more = "" if name == "train" else f", or set data.{name} to a part such as 0.15"
            raise UserError(f"data.{name}: {said}. Name another split{more}.")
        ratios[name] = asked[name]
        found.notices.append(
            f"{said}, so it is left out; data.{name}={asked[name]} says what part of the training "
            "examples takes its place."
        )
    return found.keep([i for i, name in enumerate(found.brought) if name in shown])


def _builder(module: Any, name: str, data_dir: str | None) -> Any:
    folder = located(name)
    if folder.is_dir():
        found = sorted(
            info.parent
            for depth in ("", "*/", "*/*/", "*/*/*/")
            for info in folder.glob(f"{depth}dataset_info.json")
        )
        if not found:
            raise UserError(
                f"data.name: {folder} is no data set that TFDS has prepared: there is no "
                "dataset_info.json in it. For a folder of pictures choose data=image_folder."
            )
        if len(found) > 1:
            raise UserError(
                f"data.name: {folder} holds several data sets or versions. Name one of them: "
                f"{listing(found, 10)}."
            )
        return module.builder_from_directory(str(found[0]))
    try:
        builder = module.builder(name, data_dir=data_dir and str(located(data_dir)), try_gcs=False)
    except ForeignFeature:
        raise
    except module.core.registered.DatasetNotFoundError as error:
        known = module.list_builders(with_community_datasets=False)
        raise UserError(
            f"data.name: there is no folder and no data set of TFDS named {name!r}."
            f"{nearest(name, known)} tfds.list_builders() lists the {len(known):,} names."
        ) from error
    except Exception as error:
        raise UserError(f"data.name={name}: TFDS cannot open it ({_first(error)}).") from error
    if not builder.info.splits:
        try:
            _check_network(builder)
            builder.download_and_prepare()
        except Exception as error:
            raise UserError(
                f"data.name: {name} is not prepared in {builder.data_dir}, and could not be "
                f"downloaded and prepared ({_first(error)}). Prepare it where there is a "
                f"network (tfds build {name}), copy it over, and name its folder: data.name=DIR."
            ) from error
    return builder


def _check_network(builder: Any) -> None:
    """Fail at once where TFDS would retry for minutes."""
    for url in list(builder.url_infos)[:1]:
        if reason := unreachable(url):
            raise ConnectionError(reason)


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _splits(builder: Any, train: str, validation: Any, test: Any) -> dict[str, str]:
    """Return how TFDS writes each split that the data brings."""
    brought: dict[str, str] = {}
    for own in builder.info.splits:
        if split := split_name(own):
            brought.setdefault(split, own)
    wanted = {"train": train if train != "train" else brought.get("train", "train")}
    for split, value in (("validation", validation), ("test", test)):
        if isinstance(value, str):
            wanted[split] = value
        elif split in brought:
            wanted[split] = brought[split]
    for split, expression in wanted.items():
        own = expression.split("[")[0].split("+")[0]
        if own not in builder.info.splits:
            raise UserError(
                f"data.{split}: {builder.info.full_name} has no split {own!r}. Its splits: "
                f"{listing(builder.info.splits, 20)}. Received: data.{split}={expression}."
            )
    return wanted


def _input(module: Any, features: Any, chosen: str | None, label: str) -> tuple[str, bool]:
    kinds = {}
    for name, feature in features.items():
        if name == label:
            continue
        if isinstance(feature, module.features.Image):
            kinds[name] = True
        elif isinstance(feature, module.features.Text):
            kinds[name] = False
    if chosen is None:
        pictures = [name for name, is_image in kinds.items() if is_image]
        fitting = pictures or list(kinds)
        if len(fitting) != 1:
            raise UserError(
                "data.input must name the feature to read, a picture or a text; "
                + (f"several fit: {listing(fitting, 20)}." if fitting else "none fits.")
                + f" The features: {listing(features, 30)}."
            )
        return fitting[0], kinds[fitting[0]]
    if chosen in features and chosen not in kinds:
        raise UserError(
            f"data.input must be a picture or a text. Received: data.input={chosen}, a "
            f"{type(features[chosen]).__name__}. Those that fit: {listing(kinds, 20)}."
        )
    return chosen, kinds.get(chosen, False)


def _names(feature: Any) -> list[str] | None:
    # A sequence of classes has several labels an example.
    feature = getattr(feature, "feature", feature)
    names = getattr(feature, "names", None)
    if not names or all(name.isdigit() and int(name) == n for n, name in enumerate(names)):
        return None
    return list(names)


def _collect(
    module: Any, builder: Any, split: str, expression: str, columns: list[str], is_image: bool,
    found: Collection,
) -> None:  # fmt: skip
    decoders: Mapping[str, Any] = {columns[0]: module.decode.SkipDecoding()} if is_image else {}
    try:
        # Without shuffling of files, an example has the same number, and name, each time.
        dataset = builder.as_dataset(
            split=expression, shuffle_files=False, decoders=dict(decoders) or None
        )
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"data.{split}: TFDS cannot read {expression!r} of {builder.info.full_name} "
            f"({_first(error)})."
        ) from error
    dataset = mapped(dataset, lambda example: {name: example[name] for name in columns})
    for number, example in enumerate(dataset.as_numpy_iterator()):
        content = example[columns[0]]
        if not is_image:
            texts = [example[name].decode("utf-8") for name in (columns[0], *columns[2:])]
            content = tuple(texts) if len(texts) > 1 else texts[0]
        found.inputs.append(content)  # type: ignore[attr-defined]
        value = example[columns[1]]
        found.values.append(_plain(value))
        found.ids.append(f"{expression}:{number}")
        found.brought.append(split)


def _plain(value: Any) -> Any:
    """Return a number or list of numpy as Python's."""
    if not hasattr(value, "tolist"):
        return value
    narrow = str(value.dtype) if str(value.dtype) in ("float16", "float32") else None
    return shortest([value.tolist()], narrow)[0] if narrow else value.tolist()
