"""One loaded version of a model, which answers by signature."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.layout import DEFAULT, EXTRA, WARMUP
from kerasft.artifact.standalone import register_text_ops
from kerasft.serving.limits import Limits
from kerasft.serving.protos import array_of, examples_of
from kerasft.serving.status import Failure, in_words, invalid

# What TensorFlow Serving replays at most.
MOST_WARM_UP = 1000
# So many names are quoted where they are the wrong ones.
_QUOTED = 20
_registering = threading.Lock()


class Bundle:
    """A SavedModel in a session, as TensorFlow Serving loads it.

    Args:
        path: The folder of the version.
        number: The version.
        threads: How many threads an operation may take; all cores where `None`.
    """

    def __init__(self, path: Path, number: int, threads: int | None = None):
        import tensorflow as tf

        with _registering:
            register_text_ops()
        v1 = tf.compat.v1
        # It advises another way to load, which is not the one of a server.
        tf.get_logger().setLevel("ERROR")
        self.path, self.number = path, number
        self.config = v1.ConfigProto(intra_op_parallelism_threads=threads or 0)
        self._session = v1.Session(graph=tf.Graph(), config=self.config)
        try:
            loaded = v1.saved_model.load(
                self._session, [v1.saved_model.tag_constants.SERVING], str(path)
            )
        except Exception:
            self._session.close()
            raise
        self.signatures = {
            name: signature for name, signature in loaded.signature_def.items()
            if not name.startswith("__")
        }  # fmt: skip
        self.using = 0

    def signature(self, name: str) -> tuple[str, Any]:
        """Return the name and the definition of a signature; the default one for no name."""
        name = name or DEFAULT
        if name not in self.signatures:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        return name, self.signatures[name]

    def require_inputs(self, name: str, inputs: Collection[str]) -> None:
        """See that a request has the inputs of a signature.

        Raises:
            Failure: If it has not.
        """
        wanted = self.signature(name)[1].inputs
        # The number first: there may be millions of names.
        if len(inputs) != len(wanted) or set(inputs) != set(wanted):
            more = ",..." if len(inputs) > _QUOTED else ""
            given = f"{{{','.join(sorted(islice(inputs, _QUOTED)))}{more}}}"
            raise invalid(
                "input size does not match signature: "
                f"{len(inputs)}!={len(wanted)} len({given}) != "
                f"len({{{','.join(sorted(wanted))}}})."
            )

    def run(
        self, name: str, inputs: Mapping[str, np.ndarray], wanted: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Answer one batch.

        Args:
            name: The name of a signature.
            inputs: Input name to array.
            wanted: The outputs to compute; all where empty.

        Raises:
            Failure: If the inputs are not those of the signature, or the graph refuses them.
        """
        import tensorflow as tf

        self.require_inputs(name, inputs)
        name, definition = self.signature(name)
        if unknown := sorted(set(wanted) - set(definition.outputs)):
            raise invalid(f"output tensor alias not found in signature: {unknown[0]}")
        keys = wanted or tuple(definition.outputs)
        feed = {definition.inputs[key].name: value for key, value in inputs.items()}
        try:
            return self._session.run({k: definition.outputs[k].name for k in keys}, feed)
        except tf.errors.InvalidArgumentError as error:
            raise invalid(in_words(error.message)) from error
        except UnicodeDecodeError as error:  # the graph quotes the input
            raise invalid("The graph refuses an input, in words that are no UTF-8.") from error
        except (TypeError, ValueError) as error:  # a shape that the input does not take
            raise invalid(str(error)) from error
        except tf.errors.OpError as error:
            code = "RESOURCE_EXHAUSTED" if error.error_code == 8 else "INTERNAL"
            raise Failure(code, in_words(error.message)) from error
        except RuntimeError as error:  # the session is closed
            raise Failure("UNAVAILABLE", str(error)) from error

    def warm_up(self) -> int:
        """Replay the warm-up requests that lie in the artifact; return how many there were."""
        count = 0
        for name, inputs in islice(warm_up_requests(self.path), MOST_WARM_UP):
            self.run(name, inputs)
            count += 1
        return count

    def close(self) -> None:
        """Give its memory back."""
        self._session.close()


def warm_up_requests(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the signature and the inputs of each warm-up request in an artifact.

    Args:
        path: The folder of the version.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    file = path / EXTRA / WARMUP
    if not file.is_file():
        return
    limits = Limits()  # the file may come from anybody, too
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            request = log.predict_log.request
            yield request.model_spec.signature_name, {
                key: array_of(key, value, None, limits) for key, value in request.inputs.items()
            }
        elif kind in ("classify_log", "regress_log"):
            request = getattr(log, kind).request
            yield request.model_spec.signature_name, {"inputs": examples_of(request.input, limits)}
