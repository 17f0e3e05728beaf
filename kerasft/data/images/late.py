"""Images that are decoded when a batch wants them: those that fit nowhere when they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.data.fingerprint import fingerprint
from kerasft.data.images.audit import inspect
from kerasft.errors import Unreadable, UserError
from kerasft.raw_input import as_decodable
from kerasft.spec import Examples, ImagePreprocess, channels_of
from kerasft.system.tf_data import cores

if TYPE_CHECKING:
    import tensorflow as tf


class LateImages:
    """The pixels of images, as the values of a `Column`; they are decoded at each look.

    What they are decoded from stays where it is: in files, which must not change meanwhile, or in
    memory. They have the same pixels as those that `prepare_splits` keeps.

    Args:
        examples: The images.
        preprocess: Decodes them.
        digests: The fingerprint of each; `None` where no file is compared with it.
    """

    dtype = np.dtype("uint8")
    ndim = 4
    nbytes = 0
    strides: tuple[int, ...] = ()

    def __init__(
        self, examples: Examples, preprocess: ImagePreprocess, digests: Sequence[str] | None = None
    ) -> None:
        self.examples, self.preprocess, self.digests = examples, preprocess, digests
        size = (preprocess.height, preprocess.width, channels_of(preprocess))
        self.shape = (len(examples), *size)
        self._decoded: Any = None

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return the pixels of an image by its number, or of several, `uint8[..., h, w, c]`."""
        import tensorflow as tf

        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        wanted = np.asarray(rows, "int64")
        if not wanted.size:
            return np.zeros((*wanted.shape, *self.shape[1:]), "uint8")
        flat = wanted.reshape(-1).tolist()
        encoded = [self._encoded(row) for row in flat]
        try:
            made = self._decode(tf.constant(encoded, tf.string)).numpy()
        except tf.errors.OpError as error:
            raise self._unreadable(flat, encoded) from error
        return made.reshape(*wanted.shape, *self.shape[1:])

    def _encoded(self, row: int) -> bytes:
        value = self.examples.inputs[row]
        if isinstance(value, bytes):
            return as_decodable(value)
        try:
            with open(value, "rb") as file:
                content = file.read()
        except OSError as error:
            raise Unreadable(
                f"The image {self.examples.ids[row]!r} was there when the run began, and cannot be "
                f"read any more: {error.strerror or error}. Put it back, and begin again or go on."
            ) from error
        if self.digests is not None and fingerprint(content, "images") != self.digests[row]:
            raise UserError(
                f"The image {self.examples.ids[row]!r} was changed while the run used it. Begin "
                "again when nobody writes to these files any more."
            )
        return as_decodable(content)

    def _decode(self, encoded: tf.Tensor) -> Any:
        import tensorflow as tf

        if self._decoded is None:
            def decoded(raw: tf.Tensor) -> Any:
                return tf.map_fn(
                    self.preprocess.decode, raw, parallel_iterations=cores(),
                    fn_output_signature=tf.TensorSpec(self.shape[1:], tf.uint8),
                )

            spec = tf.TensorSpec([None], tf.string)
            self._decoded = tf.function(decoded, input_signature=[spec], autograph=False)
        return self._decoded(encoded)

    def _unreadable(self, rows: Sequence[int], encoded: Sequence[bytes]) -> Unreadable:
        """Return the error of a batch one of whose images cannot be decoded."""
        import tensorflow as tf

        for row, one in zip(rows, encoded, strict=True):
            try:
                self._decode(tf.constant([one], tf.string))
            except tf.errors.OpError as error:
                reason = inspect(self.examples.inputs[row]).problem
                reason = reason or str(error).splitlines()[0].split("[Op:")[0].strip(". ")
                return Unreadable(
                    f"The image {self.examples.ids[row]!r} could not be decoded: {reason}. Remove "
                    "it or save it again."
                )
        return Unreadable("Images could not be decoded together that can be decoded one by one.")
