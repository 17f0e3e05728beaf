"""The precision that a trained network computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# The words of /proc/cpuinfo for products of matrices in bfloat16.
FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def policy_of(precision: str, cpuinfo: str = "/proc/cpuinfo") -> str:
    """Return the dtype policy that a precision means on this machine.

    Args:
        precision: The name of a policy, or `"auto"`.
        cpuinfo: Where Linux says what the processor can do.

    Returns:
        The policy; for `"auto"` `"mixed_bfloat16"` where all GPUs, or without any the processor,
        multiply in `bfloat16`, else `"float32"`.

    Example:
        >>> policy_of("mixed_float16")
        'mixed_float16'
    """
    if precision != "auto":
        return precision
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        fast = all(one.get("compute_capability", (0, 0)) >= (8, 0) for one in details)
    else:
        file = Path(cpuinfo)
        fast = file.is_file() and not FLAGS.isdisjoint(file.read_text("utf-8").split())
    return "mixed_bfloat16" if fast else "float32"


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let GPUs multiply with all bits of float32 inside the block.

    By default those of NVIDIA's Ampere and later cut them to 10 bits of mantissa (TensorFloat-32);
    what is measured would then differ from what is served by about a thousandth.
    """
    import tensorflow as tf

    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


def in_float32(model: keras.Model) -> Any:
    """Let a network that was trained in mixed precision compute in `float32` from now on.

    Its weights are `float32` anyway. What is measured is then what is served, to the last digits:
    in half precision an answer hangs on the batch that it is computed in, and few machines that
    serve have fast `bfloat16`.

    Args:
        model: A Keras model; it is changed in place.

    Returns:
        The same model.

    Example:
        >>> import keras
        >>> layer = keras.layers.Dense(2, dtype="mixed_bfloat16")
        >>> model = keras.Sequential([keras.Input((3,)), layer])
        >>> in_float32(model).layers[0].compute_dtype
        'float32'
    """
    changed = False
    for layer in model._flatten_layers(include_self=True):
        if layer.compute_dtype != "float32":
            mode = layer.quantization_mode  # of a kernel in int8, which stays such
            layer.dtype_policy = f"{mode}_from_float32" if mode else "float32"
            changed = True
    if changed:
        # What was compiled before computes as before.
        model.train_function = model.test_function = model.predict_function = None
    return model
