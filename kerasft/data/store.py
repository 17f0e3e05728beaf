"""Examples after preprocessing, kept so that no epoch decodes or tokenizes again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasft.errors import UserError
from kerasft.spec import Examples, Preprocess, as_raw

# Pictures beyond this many bytes are kept in a memory-mapped temporary file.
MEMORY_LIMIT = 2 * 1024**3


class Pictures:
    """Decoded pictures, `uint8[N, height, width, 3]`."""

    lengths = None

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"images": self.images[indices]}


class Tokens:
    """Tokenized texts, end to end, with where each begins; a batch is as long as its longest row.

    Args:
        flat: For each input of the network its values of all rows.
        lengths: `int64[N]`.
        fill: What pads each input.
        longest: The most positions that the network takes.
    """

    def __init__(self, flat: dict[str, np.ndarray], lengths: np.ndarray, fill: dict[str, int],
                 longest: int):
        self.flat, self.lengths, self.fill, self.longest = flat, lengths, fill, longest
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype("int64")

    def __len__(self) -> int:
        return len(self.lengths)

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        lengths = self.lengths[indices]
        # Whole eights: fewer shapes for the compiled step, and rows that the processor likes.
        width = min(-(-int(lengths.max()) // 8) * 8, self.longest)
        places = np.arange(width)[None]
        real = places < lengths[:, None]
        where = np.where(real, self.starts[indices][:, None] + places, 0)
        return {
            name: np.where(real, values[where], self.fill[name]).astype("int32")
            for name, values in self.flat.items()
        }


def prepare(examples: Examples, preprocess: Preprocess) -> Pictures | Tokens:
    """Run the preprocessing once over all examples and keep the result.

    Args:
        examples: The examples.
        preprocess: The backbone's preprocessing.

    Returns:
        A store with `gather(indices)`.

    Raises:
        UserError: If a picture cannot be decoded, with its name.
    """
    if preprocess.modality == "images":
        return _decode(examples, preprocess)
    return _tokenize(examples.inputs, preprocess)


def _decode(examples: Examples, preprocess: Any) -> Pictures:
    import tensorflow as tf

    shape = (len(examples), preprocess.height, preprocess.width, 3)
    images = _room(shape)

    def raw(index: Any) -> bytes:
        value = examples.inputs[int(index)]
        if isinstance(value, bytes):
            return value
        with open(value, "rb") as file:
            return file.read()

    def decoded(index: Any) -> Any:
        return preprocess.decode(tf.numpy_function(raw, [index], tf.string))

    data = tf.data.Dataset.range(len(examples)).map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    done = 0
    try:
        for image in data.prefetch(8).as_numpy_iterator():
            images[done] = image
            done += 1
    except (tf.errors.OpError, OSError) as error:
        # Parallel maps keep the order, so that the first one missing is the one that failed.
        name = examples.ids[done]
        reason = str(error).splitlines()[0].split("[Op:")[0].strip()
        raise UserError(
            f"The picture {name!r} could not be decoded: {reason} Remove it or save it again."
        ) from error
    return Pictures(images)


def _room(shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    if size <= MEMORY_LIMIT:
        return np.empty(shape, "uint8")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > 0.9 * free:
        raise UserError(
            f"{shape[0]:,} pictures of {shape[1]}x{shape[2]} pixels need {size / 1e9:.1f} GB in "
            f"{tempfile.gettempdir()}, which has {free / 1e9:.1f} GB free. Set "
            "backbone.image_size lower, or TMPDIR to a larger disk."
        )
    # Open for as long as the array lives, and gone with it.
    file = tempfile.TemporaryFile(prefix="kerasft-")  # noqa: SIM115
    os.ftruncate(file.fileno(), size)
    return np.memmap(file, "uint8", "r+", shape=shape)


def _tokenize(texts: Sequence[Any], preprocess: Any) -> Tokens:
    kept: dict[str, list[np.ndarray]] = {name: [] for name in preprocess.inputs}
    lengths: list[np.ndarray] = []
    for start in range(0, len(texts), 512):
        rows = preprocess(as_raw(texts[start : start + 512], "text"))
        rows = {name: value.numpy() for name, value in rows.items()}
        # Where the network takes no mask, the padding counts: a row's length is the width.
        mask = rows.get("padding_mask", np.ones_like(rows["token_ids"])).astype(bool)
        lengths.append(mask.sum(axis=1))
        for name, value in rows.items():
            kept[name].append(value[mask])
    return Tokens(
        {name: np.concatenate(parts) for name, parts in kept.items()},
        np.concatenate(lengths).astype("int64"),
        {name: preprocess.pad if name == "token_ids" else 0 for name in kept},
        preprocess.sequence_length,
    )
