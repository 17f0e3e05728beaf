"""Small SavedModels, and a server in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("tensorflow_serving")


def write_model(folder: Path, *, plus: float = 0.0) -> Path:
    """Write a SavedModel of many signatures, in a second.

    `serving_default` gives x + `plus` and a text back, fails where x is negative, and sleeps as
    long as `seconds` says; `bytes` gives bytes; `classify` and `regress` read examples; `whole`
    gives an output without the batch.
    """
    import tensorflow as tf

    from kerasft.exporters.graph import _name_methods
    from kerasft.exporters.signatures import Signature

    class Module(tf.Module):
        @tf.function(input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.string, name="s"),
        ])  # fmt: skip
        def default(self, x, s):
            checked = tf.debugging.Assert(tf.reduce_all(x >= 0), ["x must not be negative:", x])
            with tf.control_dependencies([checked]):
                return {"y": x + plus, "echo": tf.identity(s)}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
        def one(self, ids):
            return {"total": tf.reduce_sum(ids, axis=-1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="data_bytes")])
        def as_bytes(self, data_bytes):
            return {"back_bytes": data_bytes, "length": tf.strings.length(data_bytes)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="data")])
        def broken(self, data):
            return {"text": tf.strings.join([data, tf.constant(b"\xff")])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def odd(self, x):
            return {"n": x / tf.zeros_like(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def whole(self, x):
            return {"total": tf.reduce_sum(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="seconds")])
        def slow(self, seconds):
            # Counts, so that it takes as long on any machine within a factor of a few.
            steps = tf.cast(tf.reduce_max(seconds) * 400_000, tf.int32)
            done = tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [0], parallel_iterations=1)
            return {"steps": tf.fill(tf.shape(seconds), done[0])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs):
            x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
            scores = tf.stack([x, 1 - x], axis=-1)
            return {"scores": scores,
                    "classes": tf.broadcast_to(tf.constant(["hoch", "tief"]), tf.shape(scores))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def regress(self, inputs):
            feature = tf.io.FixedLenFeature([], tf.float32)
            return {"outputs": tf.io.parse_example(inputs, {"x": feature})["x"] * 2}

    made = Module()
    functions = {
        "serving_default": made.default, "one": made.one, "bytes": made.as_bytes,
        "broken": made.broken, "odd": made.odd, "whole": made.whole, "slow": made.slow,
        "classify": made.classify, "regress": made.regress,
    }  # fmt: skip
    tf.saved_model.save(made, str(folder), signatures=functions)
    _name_methods(folder, {
        name: Signature(name if name in ("classify", "regress") else "predict", "", {}, print)
        for name in functions
    })  # fmt: skip
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "signature.json").write_text(json.dumps({"name": "toy"}))
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """The folder of a small model with one version."""
    root = tmp_path_factory.mktemp("toy")
    write_model(root / "1")
    return root


class Running:
    """A server in a thread, and the way to ask it."""

    def __init__(self, server, thread):
        self.server, self.thread = server, thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.ports['rest']}/v1/models/{self.server.model.name}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.ports['grpc']}"

    def ask(self, path: str, body=None, *, method: str | None = None):
        """Return the code and the JSON of an answer."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def until(self, condition, seconds: float = 30.0) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come about in time"
            time.sleep(0.02)


@contextlib.contextmanager
def running(path: Path, **options):
    """Serve a folder in a thread while a block runs."""
    from kerasft.serving.server import Server, Settings

    given = {"rest_port": 0, "grpc_port": 0, "poll": 0.1, "threads": 1, **options}
    server = Server(Settings(str(path), **given), path)
    loop, failed = asyncio.new_event_loop(), []

    def work():
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(server.run())
        except BaseException as error:
            failed.append(error)
        finally:
            rest = asyncio.all_tasks(loop)  # as `asyncio.run` ends
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    made = Running(server, thread)
    try:
        # A real export is loaded and warmed up, on a machine that may be busy.
        made.until(lambda: server.ready.is_set() or failed, seconds=180)
        if failed:
            raise failed[0]
        yield made
    finally:
        if not failed:
            with contextlib.suppress(RuntimeError):  # it has stopped by itself
                loop.call_soon_threadsafe(server.stopping.set)
        thread.join(timeout=60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


@pytest.fixture
def serve():
    """Return `running`, the context in which a folder is served."""
    return running


@pytest.fixture
def write_toy():
    """Return what writes a version of the small model."""
    return write_model


@pytest.fixture(scope="session")
def toy_server(toy):
    """The small model, served with the label `stable`."""
    import pytest_socket

    pytest_socket.enable_socket()
    with running(toy, labels={"stable": 1}) as made:
        yield made


def train_on(rows: list[tuple], root: Path, *words: str) -> Path:
    """Train on a small table; return the folder of the run."""
    import csv

    import kerasft

    with open(root / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return kerasft.train(
        [*words, f"data.path={root / 'rows.csv'}", f"output_dir={root / 'run'}"]
    ).output_dir


@pytest.fixture(scope="session")
def tiny_pair_run(tmp_path_factory, tiny_texts) -> Path:
    """The folder of a run that tells a number of two texts."""
    rows = [("text", "second", "label"), *(
        (f"a {'big ' * (i % 5)}dog", f"one {'big ' * (i % 3)}cat", 10 + i % 5 - i % 3)
        for i in range(40)
    )]  # fmt: skip
    return train_on(rows, tmp_path_factory.mktemp("pairs"), *tiny_texts,
                    "data.text_pair=second", "task=regression")  # fmt: skip


@pytest.fixture(scope="session")
def tiny_multi_label_run(tmp_path_factory, tiny_texts) -> Path:
    """The folder of a run that gives any number of labels to a text."""
    kinds = ("red,big", "red", "big", "")
    rows = [("text", "label"), *(
        (f"a {kinds[i % 4].replace(',', ' ')} thing {i}", kinds[i % 4]) for i in range(48)
    )]  # fmt: skip
    return train_on(rows, tmp_path_factory.mktemp("labels"), *tiny_texts, "task=multi_label")
