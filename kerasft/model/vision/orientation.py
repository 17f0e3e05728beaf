"""Images that are stored turned: their EXIF orientation is read and followed in the graph.

TensorFlow's decoders ignore it. The bytes are untrusted: no position leaves the file, each loop is
bounded, and an orientation that cannot be read counts as upright.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

# Steps over the segments or chunks of a file, which is all that a hostile one can cost.
MOST_STEPS = 4096
# Files up to this size are searched for the names that EXIF goes by: that takes less time than to
# step through them, and most have none.
_SMALL, _NAMES = 2**16, r"\C*(Exif\x00\x00|eXIf|EXIF)\C*"
# Chunks of a PNG that are passed over at a time where they have one length: those of its pixels.
_RUN = 32
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_PREFIX = b"Exif\0\0"


def upright(encoded: tf.Tensor, image: tf.Tensor) -> Any:
    """Return a decoded image as its EXIF orientation says that it is seen.

    Args:
        encoded: The file, a scalar `tf.string`.
        image: Its pixels, `[height, width, channels]`.

    Returns:
        The pixels; a quarter turn swaps height and width.
    """
    import tensorflow as tf

    orientation = read(encoded)
    turned = tf.cond(orientation > 1, lambda: turn(image, orientation), lambda: image)
    return tf.ensure_shape(turned, [None, None, image.shape[-1]])


def turn(image: tf.Tensor, orientation: tf.Tensor) -> Any:
    """Return pixels that are stored in an orientation from 1 to 8, upright."""
    import tensorflow as tf

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    # By orientation, after the transposition.
    rows = tf.constant([False, False, False, True, True, False, False, True, True])[orientation]
    columns = tf.constant([False, False, True, True, False, False, True, True, False])[orientation]
    return tf.reverse(image, tf.boolean_mask([0, 1], tf.stack([rows, columns])))


def read(encoded: tf.Tensor) -> Any:
    """Return the EXIF orientation of a JPEG, PNG or WebP file.

    Args:
        encoded: The file, a scalar `tf.string`.

    Returns:
        A scalar `tf.int32` from 1 to 8; 1 for a file that has none, is damaged, or of another
        format.

    Example:
        >>> int(read(tf.io.encode_jpeg(tf.zeros([4, 6, 3], tf.uint8))))
        1
    """
    import tensorflow as tf

    size = tf.cast(tf.strings.length(encoded), tf.int64)
    possible = tf.cond(
        size <= _SMALL,
        lambda: tf.strings.regex_full_match(encoded, _NAMES), lambda: tf.constant(True),
    )  # fmt: skip
    return tf.cond(possible, lambda: _read(encoded, size), lambda: tf.constant(1))


def _read(encoded: tf.Tensor, size: object) -> Any:
    import tensorflow as tf

    head = _bytes(encoded, 0, 30)
    # A WebP has an EXIF chunk only where the flag in its extended header is set.
    webp = _is(head, b"RIFF") & _is(head, b"WEBPVP8X", 8) & (head[20] // 8 % 2 == 1)
    kinds = [_is(head, b"\xff\xd8\xff"), _is(head, b"\x89PNG\r\n\x1a\n"), webp]
    kind = tf.reduce_sum(tf.cast(tf.stack(kinds), tf.int32) * [1, 2, 3])
    start, end = tf.switch_case(kind, [
        lambda: (size, size), lambda: _find_in_jpeg(encoded, size),
        lambda: _find_in_png(encoded, size), lambda: _find_in_webp(encoded, size),
    ])  # fmt: skip
    return tf.cond(end > start, lambda: _in_exif(encoded, start, end), lambda: tf.constant(1))


def _walk(step: Callable[[Any], tuple[Any, Any]], first: int, size: tf.Tensor) -> Any:
    """Step through a file, and return where its EXIF is; the file's size where there is none.

    Args:
        step: Takes a position; returns the next one, and whether EXIF is at this one.
        first: The first position.
        size: How long the file is.
    """
    import tensorflow as tf

    def onward(at: tf.Tensor) -> tuple[Any]:
        following, found = step(at)
        # One variable, since each costs time in each step: what was found lies behind the end.
        return (tf.where(found, size + 1 + at, tf.minimum(following, size)),)

    (last,) = tf.while_loop(
        lambda at: at < size, onward, (tf.minimum(tf.constant(first, tf.int64), size),),
        maximum_iterations=MOST_STEPS,
    )  # fmt: skip
    return tf.where(last > size, last - size - 1, size)


def _find_in_jpeg(encoded: tf.Tensor, size: object) -> tuple[Any, Any]:
    """Find the first Exif segment."""
    import tensorflow as tf

    # By marker: how far it is to the next one, and whether the length of a segment is added. Fill
    # bytes (FF), and bytes that belong to nothing, are passed over one by one, as decoders do.
    stride, added = [2] * 256, [1] * 256
    for marker in (0x01, *range(0xD0, 0xD9)):
        added[marker] = 0
    for marker in (0x00, 0xFF):
        stride[marker], added[marker] = 1, 0
    for marker in (0xD9, 0xDA):  # the end, and the pixels
        stride[marker] = 2**40
    exif = int.from_bytes(b"\xff\xe1\0\0Exif", "big", signed=True)
    mask = int.from_bytes(b"\xff\xff\0\0\xff\xff\xff\xff", "big", signed=True)

    def word(at: object) -> Any:
        part = tf.strings.substr(encoded, at, tf.constant(8, tf.int64))
        part = tf.io.decode_raw(part, tf.int64, little_endian=False, fixed_length=8)
        return tf.reshape(part, [])

    def shifted(value: object, by: int) -> Any:
        return tf.bitwise.right_shift(value, tf.constant(by, tf.int64))

    def bits(value: object, which: int) -> Any:
        return tf.bitwise.bitwise_and(value, tf.constant(which, tf.int64))

    def step(at: object) -> tuple[Any, Any]:
        here = word(at)
        marker, length = bits(shifted(here, 48), 0xFF), bits(shifted(here, 32), 0xFFFF)
        far = tf.gather(tf.constant(stride, tf.int64), marker)
        far += tf.gather(tf.constant(added, tf.int64), marker) * length
        is_marker = shifted(here, 56) == -1  # FF, as a signed number
        return at + tf.where(is_marker, far, 1), bits(here, mask) == exif

    at = _walk(step, 2, size)
    end = at + 2 + bits(shifted(word(at), 32), 0xFFFF)
    return tf.minimum(at + 4, size), tf.minimum(end, size)


def _find_in_png(encoded: tf.Tensor, size: tf.Tensor) -> tuple[Any, Any]:
    """Find the first eXIf chunk."""
    import tensorflow as tf

    whole = tf.io.decode_raw(encoded, tf.uint8)
    weights = tf.constant([2**24, 2**16, 2**8, 1], tf.int64)
    exif, last = (int.from_bytes(name, "big") for name in (b"eXIf", b"IEND"))

    def chunks(places: Any) -> tuple[Any, Any]:
        """Return the lengths and names of the chunks at some places."""
        inside = tf.clip_by_value(places[:, None] + tf.range(8, dtype=tf.int64), 0, size - 1)
        words = tf.reshape(tf.cast(tf.gather(whole, inside), tf.int64), [-1, 2, 4])
        words = tf.reduce_sum(words * weights, -1)
        return words[:, 0], words[:, 1]

    def step(at: tf.Tensor) -> tuple[Any, Any]:
        length, name = (part[0] for part in chunks(at[None]))
        places = at + (length + 12) * tf.range(_RUN, dtype=tf.int64)
        lengths, names = chunks(places)
        alike = (lengths == length) & (names == name) & (places < size)
        count = tf.reduce_sum(tf.math.cumprod(tf.cast(alike, tf.int64)))
        onward = tf.where(name == last, size, at + (length + 12) * count)
        return onward, name == exif

    at = _walk(step, 8, size)
    length = chunks(at[None])[0][0]
    return tf.minimum(at + 8, size), tf.minimum(at + 8 + length, size)


def _find_in_webp(encoded: tf.Tensor, size: tf.Tensor) -> tuple[Any, Any]:
    """Find the first EXIF chunk."""
    import tensorflow as tf

    def length(chunk: Any) -> Any:
        return tf.reduce_sum(chunk[4:] * [1, 2**8, 2**16, 2**24])

    def step(at: tf.Tensor) -> tuple[Any, Any]:
        chunk = _bytes(encoded, at, 8)
        # Chunks of an odd length are followed by one byte more.
        return at + 8 + length(chunk) + length(chunk) % 2, _is(chunk, b"EXIF")

    at = _walk(step, 12, size)
    end = at + 8 + length(_bytes(encoded, at, 8))
    return tf.minimum(at + 8, size), tf.minimum(end, size)


def _in_exif(encoded: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> Any:
    """Return the orientation that a TIFF header and its first directory hold, or 1."""
    import tensorflow as tf

    # PNG and WebP hold it without the prefix, but for some writers; others write it twice.
    head = _bytes(encoded, start, 20)
    one, two = _is(head, _PREFIX), _is(head, _PREFIX, len(_PREFIX))
    skip = tf.where(one, tf.where(two, 2, 1), 0) * len(_PREFIX)
    start += tf.cast(skip, tf.int64)
    header = tf.slice(head, [skip], [8])
    little, big = _is(header, b"II*\0"), _is(header, b"MM\0*")

    def number(some: Any) -> Any:
        """Return numbers of two or four bytes, which are the last axis."""
        size = some.shape[-1]
        weights = tf.constant([256**i for i in range(size)], tf.int64)
        return tf.reduce_sum(some * tf.where(little, weights, weights[::-1]), -1)

    directory = tf.minimum(start + number(header[4:]), end)
    # As many entries as there are before the end, whatever the directory says.
    room = tf.maximum(end - directory - 2, 0) // 12
    count = tf.minimum(number(_bytes(encoded, directory, 2)), room)
    entries = tf.strings.substr(encoded, tf.minimum(directory + 2, end), 12 * count)
    entries = tf.cast(tf.reshape(tf.io.decode_raw(entries, tf.uint8), [-1, 12]), tf.int64)
    kind = number(entries[:, 2:4])
    value = tf.where(kind == _SHORT, number(entries[:, 8:10]), number(entries[:, 8:]))
    known = ((kind == _SHORT) | (kind == _LONG)) & (number(entries[:, 4:8]) == 1)
    value = tf.where(known & (value >= 1) & (value <= 8), value, 1)
    # The first entry counts; the 1 at the end stands for none.
    value = tf.concat([tf.boolean_mask(value, number(entries[:, :2]) == _TAG), [1]], 0)[0]
    return tf.where((little | big) & (start + 8 <= end), tf.cast(value, tf.int32), 1)


def _bytes(encoded: tf.Tensor, at: object, count: int) -> Any:
    """Return some bytes of a file as `int64[count]`, with zeros after its end.

    Args:
        encoded: The file, a scalar `tf.string`.
        at: Where they begin, not after the end of the file.
        count: How many they are.
    """
    import tensorflow as tf

    part = tf.strings.substr(encoded, tf.cast(at, tf.int64), tf.constant(count, tf.int64))
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)


def _is(some: tf.Tensor, expected: bytes, at: int = 0) -> Any:
    """Tell whether bytes hold others at a place."""
    import tensorflow as tf

    wanted = tf.constant(list(expected), tf.int64)
    return tf.reduce_all(some[at : at + len(expected)] == wanted)
