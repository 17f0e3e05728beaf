"""`kerasft serve`, in a process of its own, over real exports of each kind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import kerasft
from kerasft.artifact.comparison import apart
from kerasft.artifact.golden import from_json, read_golden

pytestmark = pytest.mark.enable_socket
ROOT = Path(kerasft.__file__).parents[1]


@dataclass
class Command:
    """`kerasft serve` in a process, and what it said until it was ready."""

    process: subprocess.Popen
    told: str

    @property
    def rest(self) -> str:
        """The address of REST: `http://127.0.0.1:PORT/v1/models/NAME`."""
        return re.search(r"(http://\S+):predict", self.told)[1]

    @property
    def address(self) -> str:
        return re.search(r"gRPC: (\S+)", self.told)[1]

    def post(self, call: str, body) -> dict:
        asked = urllib.request.Request(f"{self.rest}:{call}", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def stop(self, number: int) -> str:
        """Stop it by a signal; return what it said since it was ready."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return said


@contextlib.contextmanager
def command(target: Path, *options: str):
    """Run `kerasft serve` on a folder while a block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasft", "serve", str(target), "--rest-port", "0",
         "--grpc-port", "0", *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                break
        yield Command(process, "".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def export(run: Path, target: Path) -> Path:
    kerasft.export(str(run), [f"export.saved_model.directory={target}"])
    return target


def answers_golden(server: Command, target: Path) -> list[str]:
    """Send all golden requests over REST; return the signatures that were asked."""
    raw = json.loads((target / "1" / "assets.extra" / "golden.json").read_text())["requests"]
    golden, tolerance = read_golden(target / "1")
    for request, case in zip(raw, golden, strict=True):
        if case.signature in ("classify", "regress"):
            found = scored(server, case)
        else:
            found = server.post("predict", request)["outputs"]
            # One output alone stands without its name.
            found = found if isinstance(found, dict) else dict.fromkeys(case.outputs, found)
        assert found.keys() == case.outputs.keys()
        for name, value in case.outputs.items():
            kind = "string" if value.dtype == object else value.dtype.name
            assert apart(from_json(found[name], kind), value) <= tolerance, (case.signature, name)
    return [case.signature for case in golden]


def scored(server: Command, case) -> dict:
    """Send the examples of a golden request to `:classify` or `:regress`."""
    examples = []
    for one in case.inputs["inputs"]:
        feature = tf.train.Example.FromString(one).features.feature
        examples.append({key: json_value(value) for key, value in feature.items()})
    found = server.post(case.signature, {"examples": examples})["results"]
    if case.signature == "regress":
        return {"outputs": np.reshape(found, case.outputs["outputs"].shape).tolist()}
    return {"classes": [[label for label, _ in row] for row in found],
            "scores": [[score for _, score in row] for row in found]}  # fmt: skip


def json_value(feature):
    from kerasft.artifact.golden import as_json

    (value,) = feature.bytes_list.value
    return as_json(np.array([value], object))[0]


def clients_print(server: Command, target: Path, *arguments: str) -> list[str]:
    """Return what the clients print that were written beside the export."""
    printed = []
    for name, address in (("client_rest.py", server.rest.split("/v1")[0]),
                          ("client_grpc.py", server.address)):  # fmt: skip
        said = subprocess.run(
            [sys.executable, str(target / "serving" / name), *arguments],
            env={**os.environ, "SERVER": address}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        printed.append(said.stdout)
    return printed


@pytest.mark.slow
def test_texts(tiny_text_run, tmp_path):
    target = export(tiny_text_run, tmp_path / "films")
    with command(target, "--verbose") as server:
        assert "is served (16 requests of warm-up)" in server.told, server.told
        asked = answers_golden(server, target)
        assert len(asked) == 20
        assert set(asked) == {"serving_default", "tensors", "classify", "embed"}
        for printed in clients_print(server, target, "a fine film", "খারাপ"):
            assert "probabilities" in printed
            assert "pos" in printed
        rest = server.stop(signal.SIGTERM)
        assert server.process.returncode == 0
    assert "REST POST" in rest
    assert "gRPC Predict OK" in rest
    assert "stopping: what was asked is answered first" in rest
    assert "Traceback" not in rest


@pytest.mark.slow
def test_images(tiny_run, tmp_path):
    target = export(tiny_run, tmp_path / "digits")
    golden, _ = read_golden(target / "1")
    first = next(case for case in golden if case.signature == "serving_default")
    (tmp_path / "one.png").write_bytes(first.inputs["image_bytes"][0])
    with command(target) as server:
        asked = answers_golden(server, target)
        assert set(asked) == {"serving_default", "tensors", "classify", "embed"}
        label = first.outputs["label"][0].decode()
        for printed in clients_print(server, target, str(tmp_path / "one.png")):
            assert re.search(rf"\blabel\W+b?\W*{re.escape(label)}\b", printed), printed
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.post("predict", {"instances": [{"image_bytes": {"b64": "AAAA"}}]})
        with refused.value as error:
            said = json.load(error)["error"]
        assert "{{" not in said
        assert "\n" not in said, said
        rest = server.stop(signal.SIGINT)
        assert server.process.returncode == 0
    assert "stopping: what was asked is answered first" in rest
    assert "Traceback" not in rest


def resident(process: subprocess.Popen) -> int:
    """Return the bytes that a process holds now."""
    fields = Path(f"/proc/{process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat(tiny_text_run, tmp_path):
    target = export(tiny_text_run, tmp_path / "films")
    texts = [f"a {word} film" for word in ("good", "bad", "warm and bright", "dull " * 12)]
    with command(target) as server:
        wanted = {text: ask_rest(server, text) for text in texts}

        def rounds(count: int) -> float:
            """Ask so often, half over each API; return the bytes that a request left."""
            before = resident(server.process)
            with ThreadPoolExecutor(8) as pool, grpc.insecure_channel(server.address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                given = [texts[i % len(texts)] for i in range(count)]
                answers = pool.map(
                    lambda i: ask_grpc(server, stub, given[i]) if i // 4 % 2
                    else ask_rest(server, given[i]), range(count),
                )  # fmt: skip
                for text, answer in zip(given, answers, strict=True):
                    assert answer == pytest.approx(wanted[text], abs=1e-5), "lost or mixed up"
            return (resident(server.process) - before) / count

        rounds(1500)  # buffers of each shape are made
        left = rounds(5000)
        print(f"{left:.0f} bytes a request, {resident(server.process) / 1e6:.0f} MB in all")
        assert left < 2048
        assert "Traceback" not in server.stop(signal.SIGTERM)
        assert server.process.returncode == 0


def ask_rest(server: Command, text: str) -> float:
    return server.post("predict", {"instances": [{"text": text}]})["predictions"][0]["score"]


def ask_grpc(server: Command, stub, text: str) -> float:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = server.rest.rpartition("/")[2]
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
    return tf.make_ndarray(stub.Predict(request, timeout=60).outputs["score"])[0]


@pytest.mark.slow
def test_numbers_of_pairs(tiny_pair_run, tmp_path):
    target = export(tiny_pair_run, tmp_path / "pairs")
    golden, _ = read_golden(target / "1")
    first = next(case for case in golden if case.signature == "serving_default")
    pair = [first.inputs[name][0].decode() for name in ("text", "text_pair")]
    with command(target) as server:
        asked = answers_golden(server, target)
        assert set(asked) == {"serving_default", "tensors", "regress", "embed"}
        for printed in clients_print(server, target, *pair):
            value = float(re.search(r"[-\d][-\d.e]*", printed)[0])
            assert value == pytest.approx(float(first.outputs["value"][0]), rel=1e-3)
        assert server.stop(signal.SIGTERM).count("Traceback") == 0
