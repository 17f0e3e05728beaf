"""From raw bytes and strings to tensors: the same object in training, prediction and export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError
from kerasft.model.text import alignment
from kerasft.model.text.tokenizing import called, tokens_of
from kerasft.model.text.word_tokens import end_to_end
from kerasft.model.vision import geometry, images, orientation
from kerasft.rows import Rows
from kerasft.spec import Modality
from kerasft.system.files import read_json, write_json
from kerasft.system.recorded import require_fields

if TYPE_CHECKING:
    import keras_hub
    import tensorflow as tf

RESIZE = ("crop", "stretch", "pad")
# The methods of `tf.image.resize`.
INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian",
                  "mitchellcubic")  # fmt: skip


class ImagePreprocess:
    """Decodes encoded images and brings them to the network's size.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        resize: `"crop"` keeps the shape of things and cuts what is too long, `"pad"` keeps it and
            fills with black, `"stretch"` uses the whole image and bends it.
        interpolation: A method of `tf.image.resize`.
        antialias: Whether shrinking averages over the pixels that fall together.
        upright: Whether an EXIF orientation is followed.
        channels: 3 for colours, 1 for grey; 4 and 2 for these with alpha, see `images.decode`.

    Example:
        >>> image = tf.io.encode_png(tf.zeros([40, 50, 3], tf.uint8))
        >>> ImagePreprocess(32, 32)(tf.stack([image])).shape
        TensorShape([1, 32, 32, 3])
    """

    modality: Modality = "images"
    pair = False
    trackables: tuple[Any, ...] = ()
    # Whose code decides too what comes out: what is kept is made again where it changes.
    parts: tuple[Any, ...] = (images.decode, orientation.read, geometry.fitted)

    def __init__(self, height: int, width: int, *, resize: str = "crop",
                 interpolation: str = "bilinear", antialias: bool = True, upright: bool = True,
                 channels: int = 3):
        if resize not in RESIZE:
            raise UserError(
                f"backbone.resize must be one of {', '.join(RESIZE)}. Received: {resize!r}."
            )
        if interpolation not in INTERPOLATIONS:
            raise UserError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}. Received: "
                f"{interpolation!r}."
            )
        if height < 1 or width < 1:
            raise UserError(
                f"Images must have at least one row and column. Received: {height}x{width}."
            )
        self.height, self.width = int(height), int(width)
        self.resize, self.interpolation, self.antialias = resize, interpolation, antialias
        self.upright, self.channels = upright, int(channels)
        if self.channels not in (1, 2, 3, 4):
            raise UserError(
                "Images must have 1 channel (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and "
                f"alpha). Received: {channels}."
            )

    def taking(self, height: int, width: int, channels: int) -> ImagePreprocess:
        """Return the same preprocessing for another size and other channels."""
        return type(self)(
            height, width, resize=self.resize, interpolation=self.interpolation,
            antialias=self.antialias, upright=self.upright, channels=channels,
        )

    def placed(self, annotations: Rows) -> Rows:
        """Return annotations of images with positions as the network sees them."""
        return geometry.placed(annotations, (self.height, self.width), self.resize)

    def decode(self, encoded: tf.Tensor) -> Any:
        """Decode one image: a scalar `tf.string` to `uint8[height, width, channels]`."""
        return images.traced(self)(encoded)

    def untraced(self, encoded: tf.Tensor) -> Any:
        """Decode one image as `decode` does."""
        import tensorflow as tf

        one = images.refuse_others(tf.reshape(encoded, [1]))[0]
        return self._sized(self.pixels(one))

    def pixels(self, encoded: tf.Tensor) -> Any:
        """Decode one image at its own size: `uint8[rows, columns, channels]`, as it is seen."""
        return images.decode(encoded, self.upright, self.channels)

    def _sized(self, image: tf.Tensor) -> Any:
        import tensorflow as tf

        near, offset = geometry.fitted(
            tf.shape(image)[:2], (self.height, self.width), self.resize
        )
        image = tf.image.resize(image, near, method=self.interpolation, antialias=self.antialias)
        top, left = offset[0], offset[1]
        if self.resize == "crop":
            image = tf.slice(image, [-top, -left, 0], [self.height, self.width, self.channels])
        elif self.resize == "pad":
            bottom, right = self.height - near[0] - top, self.width - near[1] - left
            image = tf.pad(image, [[top, bottom], [left, right], [0, 0]])
        image = tf.ensure_shape(image, [self.height, self.width, self.channels])
        # Whole numbers, so that images kept between epochs and served ones agree to the last bit.
        return tf.saturate_cast(tf.round(image), tf.uint8)

    def __call__(self, raw: tf.Tensor) -> Any:
        import tensorflow as tf

        spec = tf.TensorSpec([self.height, self.width, self.channels], tf.uint8)
        # Before any is decoded: the message tells the places of all that are none.
        encoded = images.refuse_others(tf.convert_to_tensor(raw, tf.string))
        return tf.map_fn(
            lambda one: self._sized(self.pixels(one)), encoded, fn_output_signature=spec
        )

    def framed(self, raw: tf.Tensor) -> tuple[Any, Any]:
        """Return images as `__call__` does, and how each was placed.

        Args:
            raw: Encoded images, `tf.string[batch]`.

        Returns:
            `uint8[batch, height, width, channels]`, and `float32[batch, 6]`, see `geometry`.
        """
        import tensorflow as tf

        def one(encoded: tf.Tensor) -> tuple[Any, Any]:
            pixels = self.pixels(encoded)
            shape = tf.shape(pixels)[:2]
            frame = geometry.frame_of(shape, (self.height, self.width), self.resize)
            return self._sized(pixels), frame

        encoded = images.refuse_others(tf.convert_to_tensor(raw, tf.string))
        shape = [self.height, self.width, self.channels]
        specs = (tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([6], tf.float32))
        return tf.map_fn(one, encoded, fn_output_signature=specs)

    def save(self, directory: str | Path) -> None:
        """Write what `load` needs."""
        fields = ("height", "width", "resize", "interpolation", "antialias", "upright")
        values = {"modality": "images", **{f: getattr(self, f) for f in fields}}
        if self.channels != 3:  # what is kept of images in colours is found under what it was
            values["channels"] = self.channels
        _write(directory, values)


class TextPreprocess:
    """Tokenizes texts or pairs of texts and packs them for a network.

    A single text becomes `start tokens end`, a pair `start a end b end` (with the separator twice
    where the network was trained so). Each batch is as long as its longest row, or as
    `sequence_length` for a network that takes no mask.

    Args:
        tokenizer: A KerasHub tokenizer.
        inputs: The names of the network's inputs, among `token_ids`, `segment_ids`,
            `padding_mask`.
        sequence_length: The most tokens in a row; longer texts lose their end, of a pair the
            longer one first.
        pair: Whether the raw values are pairs `[batch, 2]`.
        doubled: Whether a pair has two separators in its middle, as RoBERTa's.
        words: What a word is, where words are told: `"letters"` or `"posts"`, see
            `kerasft.model.text.alignment`.
    """

    modality: Modality = "text"

    def __init__(
        self, tokenizer: keras_hub.tokenizers.Tokenizer, *, inputs: tuple[str, ...],
        sequence_length: int, pair: bool = False, doubled: bool = False,
        words: str = alignment.LETTERS,
    ):
        self.words = words
        self.tokenizer, self.inputs = tokenizer, tuple(inputs)
        self.pair, self.doubled = pair, doubled
        self.sequence_length = int(sequence_length)
        self.start = _token(tokenizer, "cls_token_id", "start_token_id")
        self.end = _token(tokenizer, "sep_token_id", "end_token_id")
        self.pad = _token(tokenizer, "pad_token_id") or 0
        self.trackables = (tokenizer,)
        if not tokenizer.built:
            tokenizer.build(None)
        self._packed = self._traced()

    def _traced(self) -> Any:
        import tensorflow as tf

        # Called on a Python list a tokenizer takes another path than in a graph; there is one path,
        # and one trace for all sizes of a batch.
        shape = tf.TensorSpec([None, 2] if self.pair else [None], tf.string)
        return tf.function(self.pack, input_signature=[shape], autograph=False)

    def paired(self, pair: bool) -> TextPreprocess:
        """Return this preprocessing for pairs of texts, or for single ones."""
        return self if pair == self.pair else self.changed(pair=pair)

    def changed(self, **settings: Any) -> TextPreprocess:
        """Return a copy with other settings, on the same tokenizer."""
        kept = {name: getattr(self, name)
                for name in ("inputs", "sequence_length", "pair", "doubled", "words")}  # fmt: skip
        return TextPreprocess(self.tokenizer, **{**kept, **settings})

    def __call__(self, raw: tf.Tensor) -> Any:
        import tensorflow as tf

        raw = tf.convert_to_tensor(raw, tf.string)

        def anew() -> Any:
            self._packed = self._traced()
            return self._packed(raw)

        return called(self.tokenizer, lambda: self._packed(raw), anew)

    def end_to_end(self, texts: Sequence[Any]) -> Any:
        """Return many texts, all rows end to end, where that can be; see `word_tokens`."""
        return end_to_end(self, texts)

    def framed(self, raw: tf.Tensor) -> tuple[Any, dict[str, Any]]:
        """Return texts as `__call__` does, and where their words stand; see `alignment.framed`."""
        return alignment.framed(self, raw)

    def placed(self, annotations: Rows) -> Rows:
        """Return annotations with the words of each text as the network sees them."""
        return alignment.placed(self, annotations)

    def pack(self, raw: tf.Tensor, tokens: tf.RaggedTensor | None = None) -> dict[str, Any]:
        """Return texts as the network takes them, of their `tokens` where these are known."""
        import tensorflow as tf

        def column(value: int | None, like: tf.RaggedTensor) -> list[Any]:
            count = tf.shape(raw)[0]
            return [] if value is None else [tf.fill([count, 1], tf.constant(value, like.dtype))]

        def cut(tokens: tf.RaggedTensor, most: tf.Tensor | int) -> Any:
            begin, most = tokens.row_starts(), tf.cast(most, tokens.row_splits.dtype)
            places = tf.ragged.range(
                begin, begin + tf.minimum(tokens.row_lengths(), most),
                row_splits_dtype=tokens.row_splits.dtype,
            )
            return places.with_flat_values(tf.gather(tokens.values, places.flat_values))

        # Both texts of a pair in one go: a tokenizer makes the largest part of the graph.
        first = self.tokens(tf.reshape(raw, [-1])) if tokens is None else tokens
        frame = (self.start is not None) + (self.end is not None)
        room = self.sequence_length - frame
        if self.pair:
            first, second = first[::2], first[1::2]
            middle = column(self.end, first)
            middle = middle * 2 if self.doubled else middle
            room -= len(middle)
            lengths = [tf.cast(t.row_lengths(), tf.int32) for t in (first, second)]
            # The longer text gives way until both have half of the room.
            most = tf.minimum(lengths[0], tf.maximum(room - lengths[1], room - room // 2))
            first, second = cut(first, most), cut(second, room - most)
            left = [*column(self.start, first), first, *middle[:1]]
            right = [*middle[1:], second, *column(self.end, second)]
            turn = first.row_lengths() + len(left) - 1  # where the second segment begins
        else:
            left = [*column(self.start, first), cut(first, room), *column(self.end, first)]
            right, turn = [], None
        tokens = tf.concat(left + right, axis=1)
        # An empty text in a vocabulary without frame tokens still needs one position.
        lengths = tf.maximum(tokens.row_lengths(), 1)
        # A network that takes no mask reads the padding too: there the width is always the same.
        width = tf.reduce_max(lengths) if "padding_mask" in self.inputs else self.sequence_length
        shape = tf.stack([-1, tf.cast(width, tf.int64)])
        made = {
            "token_ids": tokens.to_tensor(self.pad, shape=shape),
            "padding_mask": tf.sequence_mask(lengths, width),
        }
        made["segment_ids"] = tf.zeros_like(made["token_ids"]) if turn is None else (
            tf.sequence_mask(tokens.row_lengths(), width) & ~tf.sequence_mask(turn, width)
        )
        return {name: tf.cast(made[name], tf.int32) for name in self.inputs}

    def tokens(self, text: tf.Tensor) -> Any:
        """Return the tokens of texts, `[N]`, ragged."""
        return tokens_of(self.tokenizer, text)

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer and what else `load` needs."""
        self.tokenizer.save_to_preset(str(Path(directory) / "tokenizer"))
        _write(directory, {
            "modality": "text", "inputs": list(self.inputs), "pair": self.pair,
            "doubled": self.doubled, "sequence_length": self.sequence_length,
            **({} if self.words == alignment.LETTERS else {"words": self.words}),
        })


def _token(tokenizer: keras_hub.tokenizers.Tokenizer, *names: str) -> int | None:
    for name in names:
        value = getattr(tokenizer, name, None)
        if value is not None:
            return int(value)
    return None


def _write(directory: str | Path, values: dict[str, Any]) -> None:
    write_json(Path(directory) / "preprocess.json", values)


def load(directory: str | Path) -> ImagePreprocess | TextPreprocess:
    """Load what `save` wrote.

    Args:
        directory: The folder.

    Returns:
        The preprocessing.

    Raises:
        UserError: If a file is missing.
    """
    file = Path(directory) / "preprocess.json"
    if not file.is_file():
        raise UserError(f"The file {str(file)!r} is missing: the run folder is not whole.")
    values = read_json(file, "modality")
    modality = values.pop("modality")
    made: Any = TextPreprocess
    if modality == "images":
        made = ImagePreprocess
    elif modality == "text" and "template" in values:
        from kerasft.model.text.language import LanguagePreprocess as made
    elif modality != "text":
        raise UserError(
            f"The file {str(file)!r} is damaged: modality must be images or text. Received: "
            f"{str(modality)[:60]!r}."
        )
    require_fields(values, made, file)
    try:
        if made is ImagePreprocess:
            # Older versions trained on images as they are stored, and wrote nothing of it.
            return ImagePreprocess(**{"upright": False, **values})
        tokenizer = _load_tokenizer(Path(directory) / "tokenizer")
        return made(tokenizer, **{**values, "inputs": tuple(values["inputs"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The file {str(file)!r} is damaged, or from another version ({error})."
        ) from error


def _load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer that was saved alone: `from_preset` wants a backbone beside it."""
    import keras
    import keras_hub

    file = folder / "tokenizer.json"
    try:
        tokenizer = keras.saving.deserialize_keras_object(json.loads(file.read_text("utf-8")))
        if not isinstance(tokenizer, keras_hub.tokenizers.Tokenizer):
            raise TypeError(f"it holds a {type(tokenizer).__name__}")
        tokenizer.load_preset_assets(str(folder))
    except Exception as error:
        raise UserError(
            f"The tokenizer in {str(folder)!r} cannot be loaded ({str(error).strip()}): the run "
            "folder is not whole, or from another version."
        ) from error
    return tokenizer
