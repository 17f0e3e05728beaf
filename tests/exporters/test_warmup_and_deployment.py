"""What a server is set up with can be read by the server's own messages, and runs."""

from __future__ import annotations

import ast
import json
from urllib.parse import quote

import numpy as np
import pytest
import yaml

from kerasft.artifact.layout import EXTRA, WARMUP, read_signature
from kerasft.exporters import deployment, warmup
from kerasft.exporters.saved_model import saved_model
from kerasft.spec import Labels
from kerasft.tasks.classification import Classification

LABELS = Labels("single", ("good", "bad", "so, so"))


@pytest.fixture(scope="module")
def export(make, texts, tmp_path_factory):
    network, preprocess = make.texts()
    return saved_model(
        network, tmp_path_factory.mktemp("served") / "films", preprocess=preprocess,
        task=Classification(), labels=LABELS, examples=texts, name="Films_2",
        warm_up=[1, 3, 16],
    )  # fmt: skip


def test_warm_up_is_what_tensorflow_serving_reads(export, texts):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    file = export / EXTRA / WARMUP
    found = [
        logs.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(file))
    ]
    assert {one.model_spec.name for one in found} == {"Films_2"}
    assert {one.model_spec.signature_name for one in found} == {
        "serving_default", "tensors", "embed"
    }
    default = [one for one in found if one.model_spec.signature_name == "serving_default"]
    sizes = [len(tf.make_ndarray(one.inputs["text"])) for one in default]
    assert sizes == [1, 1, 1, 3, 16]
    lengths = [len(tf.make_ndarray(one.inputs["text"])[0]) for one in default[:3]]
    assert lengths == sorted(lengths)
    assert lengths[0] < 5
    assert lengths[2] > lengths[1] > lengths[0]
    loaded = tf.saved_model.load(str(export))
    for one in found:  # and the artifact takes each of them
        serve = loaded.signatures[one.model_spec.signature_name]
        serve(**{k: tf.constant(tf.make_ndarray(v)) for k, v in one.inputs.items()})


def test_our_message_is_theirs(texts):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    inputs = {"text": np.array([b"a", b"\xff\0"], object), "ids": np.ones((2, 3), "int32")}
    theirs = logs.PredictionLog()
    request = theirs.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "films", "tensors"
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    ours = warmup.predict_log("films", "tensors", inputs)
    assert logs.PredictionLog.FromString(ours) == theirs


def test_server_configs_are_read_by_the_servers_messages(export):
    models = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    folder = export.parent / "serving"
    read = text_format.Parse((folder / "models.config").read_text(), models.ModelServerConfig())
    (one,) = read.model_config_list.config
    assert (one.name, one.base_path) == ("Films_2", "/models/Films_2")
    assert one.model_version_policy.latest.num_versions == 1
    # There are no Python messages of these two in tensorflow-serving-api.
    for name in ("monitoring.config", "batching.config"):
        text = (folder / name).read_text()
        assert text.count("{") == text.count("}") > 0


def test_manifests_are_yaml_and_name_the_same_paths(export):
    folder = export.parent / "serving"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    deploy, expose = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    (container,) = deploy["spec"]["template"]["spec"]["containers"]
    assert service["image"] == container["image"] == deployment.IMAGE
    assert "..:/models/Films_2:ro" in service["volumes"]
    assert container["volumeMounts"][0]["mountPath"] == "/models/Films_2"
    for args in (service["command"], container["args"]):
        named = [a.split("=")[1] for a in args if "file=" in a]
        assert len(named) == 3
        assert all((export.parent / n.removeprefix("/models/Films_2/")).is_file() for n in named)
    assert deploy["metadata"]["name"] == expose["metadata"]["name"] == "films-2"
    probe = container["readinessProbe"]["httpGet"]
    assert probe["path"] == "/v1/models/Films_2"
    assert not [w for f in folder.iterdir() for w in f.read_text().split() if w.count("@") == 2]


@pytest.mark.parametrize("inputs", [("image_bytes",), ("text",), ("text", "text_pair")])
def test_clients_are_python(inputs, export, tmp_path):
    signature = read_signature(export)
    signature["modality"] = "images" if inputs == ("image_bytes",) else "text"
    signature["signatures"]["serving_default"]["inputs"] = dict.fromkeys(inputs)
    folder = deployment.write(tmp_path, signature)
    for name in ("client_rest.py", "client_grpc.py"):
        text = (folder / name).read_text()
        ast.parse(text)
        assert all(f'"{key}"' in text for key in inputs)


def test_no_warm_up_and_no_golden_where_none_is_wanted(make, texts, tmp_path):
    network, preprocess = make.texts()
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=texts, signatures=["serving_default"], golden=0,
    )  # fmt: skip
    assert not (path / EXTRA / WARMUP).exists()
    kept = json.loads((path / EXTRA / "golden.json").read_text())
    assert kept["requests"] == []  # whoever has the artifact can read no example


@pytest.mark.parametrize(("name", "wanted"), [
    ("Films 2", "films-2"), ("123", "model-123"), ("2nd try", "model-2nd-try"), ("no", "model-no"),
    ("__", "model"), ("TRUE", "model-true"), ("বাংলা", "model"),
])  # fmt: skip
def test_any_name_becomes_one_that_manifests_take(name, wanted, export, tmp_path):
    folder = deployment.write(tmp_path, {**read_signature(export), "name": name})
    compose = yaml.safe_load((folder / "compose.yaml").read_text("utf-8"))
    assert list(compose["services"]) == [wanted]
    deploy, _ = yaml.safe_load_all((folder / "kubernetes.yaml").read_text("utf-8"))
    assert deploy["metadata"]["name"] == deploy["metadata"]["labels"]["app"] == wanted
    probe = deploy["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    assert probe["path"] == f"/v1/models/{quote(name)}"
    assert f'/v1/models/{quote(name)}:predict"' in (folder / "client_rest.py").read_text("utf-8")


def test_warm_up_requests_are_bounded(make, texts, tmp_path, monkeypatch):
    network, preprocess = make.texts()
    monkeypatch.setattr(warmup, "MOST_BYTES", 1000)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=texts, signatures=["serving_default"],
    )  # fmt: skip
    assert 0 < (path / EXTRA / WARMUP).stat().st_size < 1200
