"""Preprocessing, done once: texts to tokens, encoded images to pixels, kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.data import store
from kerasft.data.current_read import begins
from kerasft.data.fingerprint import fingerprint, fingerprints, gathered, hexed, ranked
from kerasft.data.images.audit import inspect
from kerasft.data.images.late import LateImages
from kerasft.data.late_texts import Chosen
from kerasft.data.store import Form, Piece, Store
from kerasft.errors import Unreadable, UserError
from kerasft.raw_input import as_decodable, as_raw
from kerasft.rows import Column, Rows
from kerasft.spec import (
    Examples,
    ImagePreprocess,
    Preprocess,
    TextPreprocess,
    channels_of,
    takes_images,
    takes_texts,
)
from kerasft.system.cache import Cache, CacheError, digest_code, digest_folder, temporary
from kerasft.system.console import warn
from kerasft.system.tf_data import AHEAD, cores, mapped, untuned

if TYPE_CHECKING:
    import tensorflow as tf

# Images beyond this many bytes are not held in memory.
MEMORY_LIMIT = 2 * 1024**3
TEXTS_AT_ONCE = 2048
# How tokens are kept; part of their key, so that another form is never misread.
TOKEN_FORMS = 2
IMAGES_AT_ONCE = 64

# What decodes and tokenizes: another version may do it otherwise.
MAKERS = ("tensorflow", "tensorflow-text", "keras-hub")
# The same for HEIC and AVIF; some of these may be missing.
CONVERTERS = ("pillow", "pi-heif", "pillow-heif")


def prepare(examples: Examples, preprocess: Preprocess) -> Store:
    """Run the preprocessing over examples and hold the result for this process alone.

    Args:
        examples: The examples.
        preprocess: The backbone's preprocessing.

    Returns:
        A `Store`.

    Raises:
        UserError: If an image cannot be decoded, with its name.
    """
    forms, longest = _forms(preprocess)
    if len(examples) * _row_size(forms) <= MEMORY_LIMIT:
        return store.collect(forms, _pieces(examples, preprocess), longest)
    return _kept(temporary(), examples, preprocess, {"examples": "all"}, "", "TMPDIR")


def prepare_splits(
    parts: Mapping[str, Examples], preprocess: Preprocess, cache: Cache,
    wanted: Sequence[str] | None = None,
) -> dict[str, Store]:
    """Return the preprocessed examples of each split, from the cache where they are there.

    All splits stand in one entry, each example once, so that another split of the same data finds
    them too.

    Args:
        parts: Examples by split.
        preprocess: The backbone's preprocessing.
        cache: Where they are kept.
        wanted: The splits that are needed; where the cache does not hold all, no others are made
            ready.

    Returns:
        A `Store` for each split, or for each that is wanted.

    Raises:
        UserError: If an image cannot be decoded.
    """
    digests = [fingerprints(part) for part in parts.values()]
    order, first = ranked(*digests)
    rows = np.empty(len(order), "int64")
    rows[order] = np.cumsum(first) - 1
    starts = np.cumsum([0, *map(len, parts.values())])
    of_part = {
        name: rows[start:end] for name, start, end in zip(parts, starts, starts[1:], strict=False)
    }
    chosen = order[first]
    modality = next(iter(parts.values())).modality
    ids: Any = Chosen([part.ids for part in parts.values()], chosen)
    each = Examples(
        modality, Chosen([part.inputs for part in parts.values()], chosen),
        Rows.of({}, len(chosen)), ids,
    )
    together = hashlib.sha256()
    for start in range(0, len(chosen), 1 << 16):  # in pieces: as text they are large
        piece = gathered(digests, chosen[start : start + (1 << 16)])
        together.update(piece.tobytes().hex().encode())
    key: dict[str, Any] = {
        "examples": together.hexdigest(),
        "preprocess": identity(preprocess),
    }
    if takes_texts(preprocess):  # what older versions kept had larger types
        key["forms"] = TOKEN_FORMS
    if wanted is not None and not cache.has(_kind(preprocess), key) and len(wanted) < len(parts):
        return prepare_splits({name: parts[name] for name in wanted}, preprocess, cache)
    whole = _kept(
        cache, each, preprocess, key, f"{len(each):,} {modality}",
        digests=hexed(gathered(digests, chosen)) if takes_images(preprocess) else None,
    )
    base = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()
    made = {}
    for name in parts if wanted is None else wanted:
        found = of_part[name]
        made[name] = whole.take(found, hashlib.sha256(base.encode() + found.tobytes()).hexdigest())
    return made


def _kept(
    cache: Cache, examples: Examples, preprocess: Preprocess, key: Mapping[str, Any], about: str,
    place: str = "cache.directory", digests: Sequence[str] | None = None,
) -> Store:
    forms, longest = _forms(preprocess)
    kind = _kind(preprocess)
    size = len(examples) * _row_size(forms)
    try:
        if not cache.has(kind, key) and size > (free := cache.free_space()):
            raise CacheError(
                f"{str(cache.directory)!r} may take {free / 1e9:.1f} GB, and they need "
                f"{size / 1e9:.1f}"
            )
        return cache.get(
            kind, key, about=about, read=store.read,
            write=lambda folder: store.write(
                folder, forms, _pieces(examples, preprocess, digests), longest
            ),
        )
    except CacheError as error:
        if size > MEMORY_LIMIT and takes_images(preprocess):
            warn(_too_large(len(examples), forms, size, error, place))
            values: Any = LateImages(examples, preprocess, digests)
            return Store.of({"images": Column(values)})
        warn(f"prepared {kind} are not kept for the next run: {error}.")
        return store.collect(forms, _pieces(examples, preprocess, digests), longest)


def _kind(preprocess: Preprocess) -> str:
    return "texts" if preprocess.modality == "text" else "images"


def _too_large(
    count: int, forms: Mapping[str, Form], size: int, error: CacheError, place: str
) -> str:
    what = " x ".join(str(n) for n in next(iter(forms.values())).shape[:2])
    limit = "" if place == "TMPDIR" else " cache.limit_gb higher,"
    return (
        f"{count:,} images of {what} pixels are more than is held in memory, {size / 1e9:.1f} GB,"
        f" and cannot be kept on disk: {error}. They are decoded anew whenever they are needed, "
        "and must not change meanwhile. To have them decoded once, set backbone.image_size "
        f"lower,{limit} or {place} to a folder on a larger disk."
    )


def identity(preprocess: Preprocess) -> str:
    """Return the SHA-256 of all that decides what a preprocessing makes of an input."""
    together = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="kerasft-") as folder:
        preprocess.save(folder)
        together.update(digest_folder(Path(folder)).encode())
    together.update(digest_code([type(preprocess), *getattr(preprocess, "parts", ())]).encode())
    converters = CONVERTERS if preprocess.modality == "images" else ()
    for name in (*MAKERS, *converters):
        with suppress(importlib.metadata.PackageNotFoundError):
            together.update(f"{name}={importlib.metadata.version(name)}\n".encode())
    return together.hexdigest()


def _forms(preprocess: Preprocess) -> tuple[dict[str, Form], int]:
    if takes_images(preprocess):
        shape = (preprocess.height, preprocess.width, channels_of(preprocess))
        return {"images": Form("uint8", shape)}, 0
    assert takes_texts(preprocess)
    ids, pad = _id_type(preprocess), preprocess.pad
    forms = {
        # Masks, segments and what is learned are numbers from 0 to 2.
        name: Form("int32", (), True, pad, ids) if name == "token_ids"
        else Form("int32", (), True, kept="uint8")
        for name in preprocess.inputs
    }
    return forms, preprocess.sequence_length


def _id_type(preprocess: TextPreprocess) -> str:
    """Return the smallest type that holds the numbers of a tokenizer's tokens."""
    count = getattr(preprocess.tokenizer, "vocabulary_size", None)
    if count is None:
        return ""
    own = [one for one in (preprocess.start, preprocess.end) if one is not None]
    # Room for a few more: some tokenizers count their special tokens apart.
    found = store.smallest(max(int(count()) + 255, preprocess.pad, *own))
    return "" if preprocess.pad < 0 or found in ("int32", "int64") else found


def _row_size(forms: Mapping[str, Form]) -> int:
    """Return the bytes of a row, as far as they are known beforehand: texts are short."""
    return sum(int(np.prod(f.shape)) * store.np_dtype(f.dtype).itemsize for f in forms.values())


def _pieces(
    examples: Examples, preprocess: Preprocess, digests: Sequence[str] | None = None
) -> Iterator[Piece]:
    if takes_images(preprocess):
        return _images(examples, preprocess, digests)
    return _texts(examples.inputs, preprocess)


def _images(
    examples: Examples, preprocess: ImagePreprocess, digests: Sequence[str] | None
) -> Iterator[Piece]:
    import tensorflow as tf

    changed: list[str] = []

    def raw(index: tf.Tensor) -> bytes:
        value = examples.inputs[int(index)]
        if isinstance(value, bytes):
            return as_decodable(value)
        begins(value)
        with open(value, "rb") as file:
            content = file.read()
        if digests is not None and fingerprint(content, "images") != digests[int(index)]:
            changed.append(examples.ids[int(index)])
        return as_decodable(content)

    def decoded(index: tf.Tensor) -> Any:
        return preprocess.decode(tf.numpy_function(raw, [index], tf.string))

    data = mapped(
        tf.data.Dataset.range(len(examples)), decoded, num_parallel_calls=2 * cores()
    )
    done, held = 0, []
    try:
        for image in untuned(data.prefetch(AHEAD)).as_numpy_iterator():
            if changed:
                break
            held.append(image)
            done += 1
            if len(held) == IMAGES_AT_ONCE:
                yield {"images": np.stack(held)}, None
                held = []
    except (tf.errors.OpError, OSError) as error:
        # Parallel maps keep the order, so that the first one missing is the one that failed.
        reason = inspect(examples.inputs[done]).problem
        reason = reason or str(error).splitlines()[0].split("[Op:")[0].strip(". ")
        raise Unreadable(
            f"The image {examples.ids[done]!r} could not be decoded: {reason}. Remove it or save "
            "it again."
        ) from error
    if changed:
        # Kept under what it held before, it would be taken for that by every later run.
        raise UserError(
            f"The image {changed[0]!r} was changed while the run read it. Begin again when "
            "nobody writes to these files any more."
        )
    if held:
        yield {"images": np.stack(held)}, None


def _texts(texts: Sequence[Any], preprocess: Preprocess) -> Iterator[Piece]:
    at_once = getattr(preprocess, "end_to_end", lambda some: None)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        begins(f"text {start + 1:,} of {len(texts):,}")
        some = texts[start : start + TEXTS_AT_ONCE]
        if (made := at_once(some)) is not None:
            yield made
            continue
        rows = preprocess(as_raw(some, "text"))
        rows = {name: value.numpy() for name, value in rows.items()}
        # Where the network takes no mask, the padding counts: a row's length is the width.
        mask = rows.get("padding_mask", np.ones_like(rows["token_ids"])).astype(bool)
        yield {name: value[mask] for name, value in rows.items()}, mask.sum(axis=1)
