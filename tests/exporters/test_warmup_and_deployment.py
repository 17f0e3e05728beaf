"""What a server is set up with can be read by the server's own messages, and runs."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
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


@pytest.mark.slow
def test_warm_up_is_what_tensorflow_serving_reads(export, texts):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    file, loaded = export / EXTRA / WARMUP, tf.saved_model.load(str(export))
    asked: dict = {}
    for record in tf.data.TFRecordDataset(str(file)):
        log = logs.PredictionLog.FromString(record.numpy())
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        assert request.model_spec.name == "Films_2"
        name = request.model_spec.signature_name
        if kind == "predict_log":
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        else:
            assert kind == f"{name}_log"
            examples = request.input.example_list.examples
            inputs = {"inputs": np.array([one.SerializeToString() for one in examples], object)}
        loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        asked.setdefault(name, []).append(inputs)
    assert set(asked) == set(read_signature(export)["signatures"])
    for name, requests in asked.items():
        sizes = [len(next(iter(one.values()))) for one in requests]
        assert sizes == [1, 1, 1, 3, 16], name
    short, middling, long, some, many = (one["text"] for one in asked["serving_default"])
    lengths = [len(one[0]) for one in (short, middling, long)]
    assert lengths[0] < 5
    assert lengths[2] > lengths[1] > lengths[0]
    # From the shortest to the longest, in batches too.
    extremes = (min(map(len, texts)), max(len(text.encode()) for text in texts))
    for batch in (some, many):
        found = [len(one) for one in batch]
        assert (found[0], found[-1]) == extremes
        assert found == sorted(found)
        assert 5 < found[len(found) // 2] < extremes[1]
    assert len(set(many.tolist())) == len(texts)


def test_regressions_are_warmed_up_as_such():
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    import tensorflow as tf

    example = tf.train.Example()
    example.features.feature["text"].bytes_list.value.append(b"\xff a")
    serialized = np.array([example.SerializeToString()] * 2, object)
    theirs = logs.PredictionLog()
    request = theirs.regress_log.request
    request.model_spec.name, request.model_spec.signature_name = "films", "regress"
    request.input.example_list.examples.extend([example, example])
    ours = warmup.score_log("films", "regress", {"inputs": serialized})
    assert logs.PredictionLog.FromString(ours) == theirs


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


@pytest.mark.slow
def test_server_configs_are_read_by_the_servers_messages(export):
    models = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    folder = export.parent / "serving"
    read = text_format.Parse((folder / "models.config").read_text(), models.ModelServerConfig())
    (one,) = read.model_config_list.config
    assert (one.name, one.base_path) == ("Films_2", "/models/Films_2")
    assert one.model_version_policy.latest.num_versions == 1


def message(*fields):
    """Return a message of the fields `(name, number, type, repeated)`, as those in proto files."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    kind, pool = descriptor_pb2.FieldDescriptorProto, descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="read.proto", package="read", syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )  # fmt: skip
    nested: dict = {}
    for name, number, of, repeated in fields:
        owner, _, key = name.rpartition(".")
        if owner not in nested:
            nested[owner] = file.message_type.add(name=owner or "Whole")
        field = nested[owner].field.add(
            name=key, number=number, label=kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
        )
        if of.startswith("."):
            field.type, field.type_name = kind.TYPE_MESSAGE, of
        else:
            field.type = getattr(kind, f"TYPE_{of.upper()}")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("read.Whole"))()


@pytest.mark.slow
def test_configs_without_messages_in_python_are_read_by_their_fields(export):
    """There are none of these two in tensorflow-serving-api.

    The fields are those of tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
    tensorflow_serving/config/monitoring_config.proto.
    """
    from google.protobuf import text_format

    folder, number = export.parent / "serving", ".google.protobuf.Int64Value"
    batching = text_format.Parse((folder / "batching.config").read_text(), message(
        ("max_batch_size", 1, number, False), ("batch_timeout_micros", 2, number, False),
        ("max_enqueued_batches", 3, number, False), ("num_batch_threads", 4, number, False),
        ("thread_pool_name", 5, ".google.protobuf.StringValue", False),
        ("allowed_batch_sizes", 6, "int64", True), ("pad_variable_length_inputs", 7, "bool", False),
    ))  # fmt: skip
    sizes = list(batching.allowed_batch_sizes)
    # Otherwise a server does not start.
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == batching.max_batch_size.value > 0
    assert batching.num_batch_threads.value > 0
    assert not batching.pad_variable_length_inputs
    monitoring = text_format.Parse((folder / "monitoring.config").read_text(), message(
        ("prometheus_config", 1, ".read.Prometheus", False),
        ("Prometheus.enable", 1, "bool", False), ("Prometheus.path", 2, "string", False),
    ))  # fmt: skip
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path.startswith("/")


@pytest.mark.slow
@pytest.mark.enable_socket
def test_the_health_of_a_container_is_seen_by_whether_it_listens(export):
    compose = yaml.safe_load((export.parent / "serving" / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    how, *command = service["healthcheck"]["test"]
    assert how == "CMD"  # run as it is: the shell of the image may be one without /dev/tcp
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        ask = [part.replace("8501", port) for part in command]
        assert ask != command
        assert subprocess.run(ask, timeout=30).returncode == 0
    ended = subprocess.run(ask, timeout=30, capture_output=True)
    assert ended.returncode != 0


@pytest.mark.slow
def test_images_are_not_batched_unless_that_is_wanted(export, tmp_path):
    """One that cannot be decoded would fail the requests of others."""
    signature = read_signature(export)
    manifests = {}
    for modality in ("text", "images"):
        folder = deployment.write(tmp_path / modality, {**signature, "modality": modality})
        compose = yaml.safe_load((folder / "compose.yaml").read_text())
        deploy, _ = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
        (service,) = compose["services"].values()
        (container,) = deploy["spec"]["template"]["spec"]["containers"]
        assert service["command"] == container["args"]
        manifests[modality] = service["command"]
        assert "# - --enable_batching=true" in (folder / "compose.yaml").read_text() or (
            modality == "text")  # fmt: skip
    left_out = set(manifests["text"]) - set(manifests["images"])
    assert {one.partition("=")[0] for one in left_out} == {
        "--enable_batching", "--batching_parameters_file"
    }
    assert set(manifests["images"]) < set(manifests["text"])


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_warm_up_and_no_golden_where_none_is_wanted(make, texts, tmp_path):
    network, preprocess = make.texts()
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=texts, signatures=["serving_default"], golden=0,
    )  # fmt: skip
    assert not (path / EXTRA / WARMUP).exists()
    kept = json.loads((path / EXTRA / "golden.json").read_text())
    assert kept["requests"] == []  # whoever has the artifact can read no example


@pytest.mark.slow
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


@pytest.mark.slow
def test_warm_up_requests_are_bounded(make, texts, tmp_path, monkeypatch):
    network, preprocess = make.texts()
    monkeypatch.setattr(warmup, "MOST_BYTES", 1000)
    path = saved_model(
        network, tmp_path, preprocess=preprocess, task=Classification(), labels=LABELS,
        examples=texts, signatures=["serving_default"],
    )  # fmt: skip
    assert 0 < (path / EXTRA / WARMUP).stat().st_size < 1200
