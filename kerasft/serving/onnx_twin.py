"""Writes the network of an export as ONNX, to be timed against: a script by itself.

    python onnx_twin.py EXPORT FILE OUTPUT

The signature `tensors` alone is taken, and one of its outputs: texts and their decoding are not
ONNX's affair.
"""

from __future__ import annotations

import os
import sys


def main(export: str, file: str, output: str) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf
    import tf2onnx

    from kerasft.artifact.standalone import register_text_ops

    register_text_ops()
    loaded = tf.saved_model.load(export)
    serve = loaded.signatures["tensors"]
    specs = list(serve.structured_input_signature[1].values())

    @tf.function(input_signature=specs, autograph=False)
    def network(*given):
        named = {spec.name: value for spec, value in zip(specs, given, strict=True)}
        return {output: serve(**named)[output]}

    tf2onnx.convert.from_function(network, input_signature=specs, opset=18, output_path=file)


if __name__ == "__main__":
    main(*sys.argv[1:])
