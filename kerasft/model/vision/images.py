"""Which files are images that TensorFlow decodes as they are meant, and their pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kerasft.model.vision import orientation
from kerasft.spec import ImagePreprocess

if TYPE_CHECKING:
    import tensorflow as tf

# How the files begin; a WebP says so at its eighth byte.
BEGINNINGS = {
    "JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "GIF": b"GIF8", "BMP": b"BM", "WebP": b"RIFF",
}  # fmt: skip
# An alpha that hides nothing.
OPAQUE = 255
# The places of what is read of a file's first bytes.
_WEBP_KIND, _WEBP_FLAGS, _WEBP_LOSSLESS = slice(8, 16), 20, 24
_BMP_HEADER, _BMP_BITS, _BMP_PACKING, _BMP_COLOURS = 14, 28, 30, 46
# The longest header of a bitmap, and a palette of 256 colours after it.
_HEAD = _BMP_HEADER + 124 + 4 * 256


def refuse_others(encoded: tf.Tensor) -> Any:
    """Fail for files that are no images, or such that decoding would get wrong.

    What is broken further in is left to the decoder.

    Args:
        encoded: Files, `tf.string[batch]`.

    Returns:
        The same. The message of the error names the places in the batch.

    Example:
        >>> refuse_others(tf.constant([b"GIF89a", b"<html>"]))
        Traceback (most recent call last):
        ...
        tensorflow....InvalidArgumentError: ...no JPEG, PNG, GIF, BMP, WebP file...
    """
    import tensorflow as tf

    first = _first_bytes(encoded)
    known = tf.reduce_any(
        [_begins(first, beginning) for name, beginning in BEGINNINGS.items() if name != "WebP"], 0
    )
    media = _begins(first, b"ftyp", 4)
    checks = {
        f"is no {', '.join(BEGINNINGS)} file": known | _is_webp(first) | media,
        "is HEIC, AVIF or a video, which TensorFlow does not decode; send JPEG or PNG": ~media,
        "is an animated WebP, of which still ones are decoded": ~_is_animated(first),
        "is a BMP with a palette or packed pixels; save it as PNG": ~_is_packed_bitmap(
            first, encoded
        ),
    }
    found = [
        tf.debugging.Assert(
            tf.reduce_all(good), [f"image_bytes holds what {what}, at these places:",
                                  tf.where(~good)[:, 0]], 20
        )
        for what, good in checks.items()
    ]  # fmt: skip
    # In a graph; by itself each was raised where it stands.
    with tf.control_dependencies([one for one in found if one is not None]):
        return tf.identity(encoded)


def traced(preprocess: ImagePreprocess) -> Any:
    """Return how a preprocessing decodes an image, traced once for all with the same settings.

    It takes longer to trace than to decode a hundred images, and each split has it anew.

    Args:
        preprocess: One whose attributes are the settings that it is made with.
    """
    kind: Any = type(preprocess)
    return _traced(kind, tuple(vars(preprocess).items()))


@functools.lru_cache(maxsize=16)
def _traced(preprocess: Callable[..., Any], settings: tuple[tuple[str, Any], ...]) -> Any:
    import tensorflow as tf

    spec = tf.TensorSpec([], tf.string)
    return tf.function(
        preprocess(**dict(settings)).untraced, input_signature=[spec], autograph=False
    )


def decode(encoded: tf.Tensor, upright: bool = True, channels: int = 3) -> Any:
    """Return the pixels of one image: `uint8[height, width, channels]`.

    Args:
        encoded: A scalar `tf.string` that `refuse_others` let pass.
        upright: Whether an EXIF orientation is followed.
        channels: 3 for colours; 4 for colours and alpha, which is 255 where the file has none; 1
            and 2 for the same in grey.
    """
    import tensorflow as tf

    def pixels(count: int) -> Any:
        image = tf.io.decode_image(encoded, channels=count, expand_animations=False)
        image.set_shape([None, None, count])
        return image[..., :3]

    def with_alpha() -> Any:
        image = tf.io.decode_image(encoded, channels=4, expand_animations=False)
        image.set_shape([None, None, 4])
        return image

    # All but WebP is turned into the channels that are asked for; WebP must be asked for its own.
    image = tf.cond(
        _is_transparent_webp(_first_bytes(encoded)), lambda: pixels(4), lambda: pixels(3)
    )
    if channels in (2, 4):
        alpha = tf.cond(
            _begins(_first_bytes(encoded), BEGINNINGS["PNG"])
            | _is_transparent_webp(_first_bytes(encoded)),
            lambda: with_alpha()[..., 3:], lambda: tf.fill(
                tf.shape(image[..., :1]), tf.constant(OPAQUE, tf.uint8)),
        )
        image = tf.concat([image, alpha], axis=-1)
    if channels < 3:
        image = tf.concat([tf.image.rgb_to_grayscale(image[..., :3]), image[..., 3:]], axis=-1)
    return orientation.upright(encoded, image) if upright else image


def _first_bytes(encoded: tf.Tensor, count: int = 32) -> Any:
    """Return the beginning of each file, with zeros after files that are shorter."""
    import tensorflow as tf

    return tf.io.decode_raw(encoded, tf.uint8, fixed_length=count)


def _begins(first: tf.Tensor, with_bytes: bytes, at: int = 0) -> Any:
    import tensorflow as tf

    part = first[..., at : at + len(with_bytes)]
    return tf.reduce_all(part == tf.constant(list(with_bytes), tf.uint8), -1)


def _is_webp(first: object) -> Any:
    return _begins(first, BEGINNINGS["WebP"]) & _begins(first, b"WEBP", 8)


def _has_bit(first: tf.Tensor, at: int, bit: int) -> Any:
    import tensorflow as tf

    return tf.bitwise.bitwise_and(first[..., at], tf.constant(bit, tf.uint8)) > 0


def _is_transparent_webp(first: object) -> Any:
    extended = _begins(first, b"VP8X", 12) & _has_bit(first, _WEBP_FLAGS, 0x10)
    lossless = _begins(first, b"VP8L", 12) & _has_bit(first, _WEBP_LOSSLESS, 0x10)
    return _is_webp(first) & (extended | lossless)


def _is_animated(first: object) -> Any:
    return _is_webp(first) & _begins(first, b"VP8X", 12) & _has_bit(first, _WEBP_FLAGS, 0x02)


def _is_packed_bitmap(first: object, encoded: tf.Tensor) -> Any:
    """Tell the bitmaps whose pixels are not plain colours or grey values."""
    import tensorflow as tf

    bitmap = _begins(first, BEGINNINGS["BMP"])
    # The look at a palette takes longer than all others, and most batches need none.
    return tf.cond(
        tf.reduce_any(bitmap), lambda: bitmap & ~_is_plain_bitmap(_first_bytes(encoded, _HEAD)),
        lambda: tf.zeros_like(bitmap),
    )  # fmt: skip


def _is_plain_bitmap(first: tf.Tensor) -> Any:
    """Tell the bitmaps whose pixels are plain colours or grey values.

    TensorFlow takes the numbers of a palette for grey values without a word.
    """
    import tensorflow as tf

    def number(at: int, size: int) -> Any:
        return sum(tf.cast(first[..., at + i], tf.int32) * 256**i for i in range(size))

    bits, packing = number(_BMP_BITS, 2), number(_BMP_PACKING, 4)
    colours = number(_BMP_COLOURS, 4)
    colours = tf.where((colours <= 0) | (colours > 256), 256, colours)
    start = tf.clip_by_value(_BMP_HEADER + number(_BMP_HEADER, 4), 0, _HEAD - 4 * 256)
    places = start[:, None] + tf.range(4 * 256)
    palette = tf.reshape(tf.gather(first, places, batch_dims=1), [-1, 256, 4])[..., :3]
    ramp = tf.range(256)
    grey = tf.reduce_all(tf.cast(palette, tf.int32) == ramp[:, None], -1)
    grey = tf.reduce_all(grey | (ramp >= colours[:, None]), -1)
    return ((packing == 0) | (packing == 3)) & (
        (bits == 24) | (bits == 32) | ((bits == 8) & grey)
    )
