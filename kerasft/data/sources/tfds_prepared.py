"""A data set that TensorFlow Datasets has prepared: opened, with its splits, and read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kerasft.data.hidden import substituted
from kerasft.data.sources.tfds_features import Leaf, leaves, spec_of
from kerasft.data.sources.tfds_safety import (
    ForeignFeature,
    own_features_alone,
    require_inside,
    require_own,
)
from kerasft.data.splits import check_ratios, split_name
from kerasft.errors import UserError, nearest
from kerasft.system.console import listing
from kerasft.system.folders import located
from kerasft.system.reachable import unreachable


@dataclass(frozen=True)
class Prepared:
    """A data set that can be read.

    Args:
        module: `tensorflow_datasets`.
        builder: The builder of the data set.
        wanted: How TFDS writes each split that is read.
        asked: What `data.validation` and `data.test` say.
    """

    module: Any
    builder: Any
    wanted: Mapping[str, str]
    asked: Mapping[str, float | str]

    @property
    def name(self) -> str:
        """The name with config and version."""
        return self.builder.info.full_name

    @cached_property
    def leaves(self) -> dict[str, Leaf]:
        """The features that hold values."""
        return leaves(self.module, self.builder.info.features)

    def read(
        self, columns: Sequence[Leaf], encoded: Collection[Leaf] = ()
    ) -> Iterator[tuple[str, int, list[Any]]]:
        """Read features of all examples.

        Args:
            columns: The features.
            encoded: Those of them that are images to be left encoded.

        Yields:
            The split, the number in it and the values of each example.

        Raises:
            UserError: If a split cannot be read.
        """
        decode = self.module.decode
        decoders = decode.PartialDecoding(
            spec_of(columns, True), decoders=spec_of(encoded, decode.SkipDecoding())
        )
        for split, expression in self.wanted.items():
            try:
                # Without shuffling of files, an example has the same number, and name, each time.
                dataset = self.builder.as_dataset(
                    split=expression, shuffle_files=False, decoders=decoders
                )
            except (ValueError, AssertionError, NotImplementedError) as error:
                raise UserError(
                    f"data.{split}: TFDS cannot read {expression!r} of {self.name} "
                    f"({_first(error)})."
                ) from error
            for number, example in enumerate(dataset.as_numpy_iterator()):
                yield split, number, [leaf.value(example) for leaf in columns]

    def name_of(self, split: str, place: int) -> str:
        """Return the name of an example."""
        return f"{self.wanted[split]}:{place}"

    def ratios(
        self, brought: Sequence[str], shown: Collection[str], what: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the parts of the training examples that take the place of missing splits.

        Args:
            brought: The split of each example.
            shown: The splits that have labels; the others hide them, as tests do.
            what: What each example of the others lacks, for messages.

        Returns:
            What `validation` and `test` are for `to_splits`, and sentences for the user.

        Raises:
            UserError: If a split that the user names hides its labels.
        """
        named = [name for name, one in self.asked.items() if isinstance(one, str)]
        return substituted(brought, shown, self.wanted, self.asked, what, named)


def open_prepared(
    name: str, data_dir: str | None, *, train: str, validation: float | str, test: float | str,
    split: str,
) -> Prepared:  # fmt: skip
    """Open a data set, and prepare it where it is not yet.

    Args:
        name: See `tfds`, as all others.
        data_dir: Where data sets by name are kept.
        train: The split to train on.
        validation: A part, or a split.
        test: The same.
        split: How a split is made by ratio.

    Raises:
        UserError: If the data is neither prepared nor to be had, or if a split is not in it.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"data=tfds needs TensorFlow Datasets ({error}). Install it: "
            "pip install tensorflow-datasets importlib_resources."
        ) from error
    if not located(name).is_dir():
        require_own(name)
    with own_features_alone(tensorflow_datasets, name):
        builder = _builder(tensorflow_datasets, name, data_dir)
    require_inside(builder, name)
    wanted = _splits(builder, train, validation, test)
    check_ratios(validation, test, split, list(wanted))
    return Prepared(
        tensorflow_datasets, builder, wanted, {"validation": validation, "test": test}
    )


def _builder(module: Any, name: str, data_dir: str | None) -> Any:
    folder = located(name)
    if folder.is_dir():
        found = _below(folder)
        if not found:
            raise UserError(
                f"data.name: {folder} is no data set that TFDS has prepared: there is no "
                "dataset_info.json in it. For a folder of images choose data=image_folder."
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


def _below(folder: Path) -> list[Path]:
    """Return the folders of prepared data sets in a folder."""
    return sorted(
        info.parent
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for info in folder.glob(f"{depth}dataset_info.json")
    )


def files_of(name: str, data_dir: str | None) -> list[Path] | None:
    """Return all files of a prepared data set, which need not be opened for it.

    Args:
        name: Its name or its folder.
        data_dir: Where data sets by name are kept.

    Returns:
        The files; `None` where nobody knows yet which data set it is.
    """
    folder = located(name)
    if not folder.is_dir():
        home = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
        folder = located(home) / name.replace(":", "/")
    found = _below(folder)
    if len(found) != 1:
        return None
    return sorted(file for file in found[0].iterdir() if file.is_file())


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
