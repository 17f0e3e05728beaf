"""Pictures that are stored turned: their EXIF orientation is read and followed in the graph.

TensorFlow's decoders ignore it. The bytes are untrusted: no position leaves the file, each loop is
bounded, and an orientation that cannot be read counts as upright.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Steps over the segments or chunks of a file, which is all that a hostile one can cost.
MOST_STEPS = 4096
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_PREFIX = b"Exif\0\0"
# Bytes of a JPEG that are searched for a marker at a time, and the bytes of its segment that are
# read: the marker, the length, and what an Exif segment begins with.
_WINDOW, _SEGMENT = 64, 10
# Chunks of a PNG that are passed over at a time where they have one length: those of its pixels.
_RUN = 32


def upright(encoded: Any, image: Any) -> Any:
    """Return a decoded picture as its EXIF orientation says that it is seen.

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


def turn(image: Any, orientation: Any) -> Any:
    """Return pixels that are stored in an orientation from 1 to 8, upright."""
    import tensorflow as tf

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    # By orientation, after the transposition.
    rows = tf.constant([False, False, False, True, True, False, False, True, True])[orientation]
    columns = tf.constant([False, False, True, True, False, False, True, True, False])[orientation]
    return tf.reverse(image, tf.boolean_mask([0, 1], tf.stack([rows, columns])))


def read(encoded: Any) -> Any:
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


Step = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def _walk(step: Step, at: int, size: Any) -> tuple[Any, Any]:
    """Step through a file, and return where its EXIF begins and ends.

    Args:
        step: Takes a position, and the beginning and end so far; returns them after one step. A
            position at the end of the file is the last.
        at: The first position.
        size: How long the file is.
    """
    import tensorflow as tf

    first = tf.minimum(tf.constant(at, tf.int64), size)
    _, start, end = tf.while_loop(
        lambda at, *_: at < size, step, (first, size, size), maximum_iterations=MOST_STEPS
    )
    return start, end


def _find_in_jpeg(encoded: Any, size: Any) -> tuple[Any, Any]:
    """Find the first Exif segment."""
    import tensorflow as tf

    def step(at: Any, start: Any, end: Any) -> tuple[Any, Any, Any]:
        window = _bytes(encoded, at, _WINDOW + _SEGMENT)
        # Fill bytes (FF), and bytes that belong to nothing, are passed over, as decoders do.
        after = window[1 : _WINDOW + 1]
        marks = (window[:_WINDOW] == 0xFF) & (after != 0xFF) & (after != 0)
        place = tf.argmax(marks)
        segment = tf.slice(window, place[None], [_SEGMENT])
        marker, length = segment[1], segment[2] * 256 + segment[3]
        body, bare = at + place + 2, (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        is_exif = (marker == 0xE1) & _is(segment, _PREFIX, 4)
        # After an Exif segment, and where the pixels begin, the file ends, or a length is too
        # short to be one, nothing more is looked for.
        last = is_exif | (marker == 0xD9) | (marker == 0xDA) | (~bare & (length < 2))
        after = tf.where(last, size, tf.where(bare, body, body + length))
        marked = marks[place]
        found = marked & is_exif
        return (
            tf.minimum(tf.where(marked, after, at + _WINDOW), size),
            tf.where(found, tf.minimum(body + 2, size), start),
            tf.where(found, tf.minimum(body + length, size), end),
        )

    return _walk(step, 2, size)


def _find_in_png(encoded: Any, size: Any) -> tuple[Any, Any]:
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

    def step(at: Any, start: Any, end: Any) -> tuple[Any, Any, Any]:
        length, name = (part[0] for part in chunks(at[None]))
        places = at + (length + 12) * tf.range(_RUN, dtype=tf.int64)
        lengths, names = chunks(places)
        alike = (lengths == length) & (names == name) & (places < size)
        count = tf.reduce_sum(tf.math.cumprod(tf.cast(alike, tf.int64)))
        found = name == exif
        onward = tf.where(found | (name == last), size, at + (length + 12) * count)
        return (
            tf.minimum(onward, size),
            tf.where(found, tf.minimum(at + 8, size), start),
            tf.where(found, tf.minimum(at + 8 + length, size), end),
        )

    return _walk(step, 8, size)


def _find_in_webp(encoded: Any, size: Any) -> tuple[Any, Any]:
    """Find the first EXIF chunk."""
    import tensorflow as tf

    def step(at: Any, start: Any, end: Any) -> tuple[Any, Any, Any]:
        chunk = _bytes(encoded, at, 8)
        length = tf.reduce_sum(chunk[4:] * [1, 2**8, 2**16, 2**24])
        found = _is(chunk, b"EXIF")
        return (
            # Chunks of an odd length are followed by one byte more.
            tf.where(found, size, tf.minimum(at + 8 + length + length % 2, size)),
            tf.where(found, tf.minimum(at + 8, size), start),
            tf.where(found, tf.minimum(at + 8 + length, size), end),
        )

    return _walk(step, 12, size)


def _in_exif(encoded: Any, start: Any, end: Any) -> Any:
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


def _bytes(encoded: Any, at: Any, count: int) -> Any:
    """Return some bytes of a file as `int64[count]`, with zeros after its end.

    Args:
        encoded: The file, a scalar `tf.string`.
        at: Where they begin, not after the end of the file.
        count: How many they are.
    """
    import tensorflow as tf

    part = tf.strings.substr(encoded, tf.cast(at, tf.int64), tf.constant(count, tf.int64))
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int64)


def _is(some: Any, expected: bytes, at: int = 0) -> Any:
    """Tell whether bytes hold others at a place."""
    import tensorflow as tf

    wanted = tf.constant(list(expected), tf.int64)
    return tf.reduce_all(some[at : at + len(expected)] == wanted)
