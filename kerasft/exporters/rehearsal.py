"""How long an export will take, from doing once each kind of work that it is made of."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.fresh import ExportError, fresh_environment
from kerasft.artifact.layout import DEFAULT
from kerasft.exporters import tensors
from kerasft.exporters.graph import write_graph
from kerasft.exporters.parity import BATCH, SINGLY
from kerasft.exporters.served import Served
from kerasft.exporters.signatures import Signature, inputs_of

# Examples that are answered together, to tell what one takes in a batch.
TOGETHER = 8
# What the process does first that proves an artifact; then it says when that was done.
START = "import gc, time; gc.disable(); import tensorflow; print(time.time())"


@dataclass(frozen=True)
class Parts:
    """The seconds of an export's parts.

    Args:
        writing: Tracing the signatures, and writing graph and weights.
        expecting: What the network in memory answers.
        preparing: The inputs of the signature `tensors`: for the proof, and for the requests that
            warm a server up.
        starting: The fresh process, until it has imported TensorFlow.
        asking: Loading the artifact there, the first call of each signature, and all others.
    """

    writing: float
    expecting: float
    preparing: float
    starting: float
    asking: float

    @property
    def seconds(self) -> float:
        """All of them."""
        return sum(vars(self).values())


def rehearse(
    served: Served, signatures: Mapping[str, Signature], raw: np.ndarray, *, golden: int,
    warm_up: Sequence[int],
) -> Parts:
    """Write one signature to a temporary folder, ask it, and reckon the time up to all of them.

    Args:
        served: The network with what stands before and after it; its weights do not matter.
        signatures: The signatures by name.
        raw: The examples on which the export will be proved, `[N]`, pairs `[N, 2]`.
        golden: How many of them become golden requests.
        warm_up: The batch sizes of the requests that a server warms up with.

    Returns:
        The `Parts`.

    Raises:
        ExportError: If a fresh process cannot import TensorFlow.
    """
    every = len({id(one) for one in signatures.values()})
    count, some = len(raw), raw[:TOGETHER]
    singles = min(max(SINGLY, golden), count)
    began = time.time()
    with (
        tempfile.TemporaryDirectory() as folder,
        # Meanwhile, since both work on one core.
        subprocess.Popen([sys.executable, "-P", "-c", START], env=fresh_environment(), cwd=folder,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
    ):  # fmt: skip
        tables = tuple(getattr(served.preprocess, "trackables", ()))
        place = Path(folder, "one")
        writing = timed(lambda: write_graph(place, {DEFAULT: signatures[DEFAULT]}, tables))
        # The first takes longer than each of the others.
        another = timed(lambda: _trace(signatures[DEFAULT]))
        requests = [inputs_of(served, DEFAULT, rows) for rows in (raw[:1], raw[:1], some)]
        loading, first, single, batch = _asked(place, requests)
        expecting = timed(lambda: served.expected(some))
        # What is done for the first time takes longer, and the export does it once.
        begun, again = (timed(lambda: inputs_of(served, "tensors", raw[:1])) for _ in range(2))
        said, _ = process.communicate()
    if process.returncode:
        raise ExportError(
            "A fresh process, in which exports are proved, cannot import TensorFlow (exit status "
            f"{process.returncode}). This tries it: {sys.executable} -P -c 'import tensorflow'"
        )
    each = batch / len(some)
    warming = sum(3 if size == 1 else 1 for size in set(warm_up))
    calls = -(-count // BATCH) + singles + (golden > 1) + warming
    return Parts(
        writing + (every - 1) * another,
        # The network, and once more what pools its features.
        expecting + 2 * each * (count - len(some)),
        begun + again * (calls - 1) if "tensors" in signatures else 0.0,
        float(said.split()[-1]) - began,
        every * (loading + first + singles * single + each * (count + golden)),
    )


def _trace(signature: Signature) -> None:
    import tensorflow as tf

    specs = list(signature.inputs.values())
    tf.function(signature.answer, specs, autograph=False).get_concrete_function()


def _asked(place: Path, requests: Sequence[Mapping[str, np.ndarray]]) -> list[float]:
    """Return the seconds of loading an artifact as its proof does, and of each request."""
    import tensorflow as tf

    v1 = tf.compat.v1
    config = v1.ConfigProto(device_count={"GPU": 0})  # as the proof
    took = []
    with v1.Session(graph=tf.Graph(), config=config) as session:
        began, tags = time.perf_counter(), [v1.saved_model.tag_constants.SERVING]
        with tensors.quietly():  # TensorFlow would advise against loading as servers do
            loaded = v1.saved_model.load(session, tags, str(place))
        took.append(time.perf_counter() - began)
        signature = loaded.signature_def[DEFAULT]
        fetch = {key: tensor.name for key, tensor in signature.outputs.items()}
        for inputs in requests:
            feed = {signature.inputs[key].name: value for key, value in inputs.items()}
            took.append(timed(partial(session.run, fetch, feed)))
    return took


def timed(act: Callable[[], Any]) -> float:
    """Return the seconds that an act takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
