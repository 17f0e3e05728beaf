"""What a server is set up with: configs, manifests and clients beside the versions of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kerasft.artifact.layout import DEFAULT, DEPLOYMENT
from kerasft.system.files import written_whole

# The least that is recommended: a graph is promised to be read by the TensorFlow that wrote it and
# later ones. The TensorFlow Text inside older servers is 2.12
# (https://github.com/tensorflow/serving/issues/2267).
IMAGE = "tensorflow/serving:2.20.0"


def write(root: Path, signature: Mapping[str, Any]) -> Path:
    """Write the folder `serving` beside the versions.

    Args:
        root: The folder of all versions.
        signature: What `signature.json` says.

    Returns:
        The folder.
    """
    folder = root / DEPLOYMENT
    name = signature["name"]
    words = {"NAME": name, "PATH": quote(name), "OBJECT": _object_name(name), "IMAGE": IMAGE}
    if signature["modality"] == "images":
        words |= _IMAGES
    elif len(signature["signatures"][DEFAULT]["inputs"]) == 2:
        words |= _PAIRS
    else:
        words |= _TEXTS
    for file, text in _FILES.items():
        with written_whole(folder / file, own=True) as part:
            filled = _filled(text, words)
            if signature["modality"] == "images":
                filled = _without_batching(filled)
            part.write_text(filled, encoding="utf-8")
    return folder


def _without_batching(text: str) -> str:
    """Return a manifest with the options that turn batching on as comments.

    An image that cannot be decoded would fail the requests of others that were merged with it.
    """
    return re.sub(r"^( *)(- --(?:enable_)?batching.*)$", r"\1# \2", text, flags=re.MULTILINE)


def _object_name(name: str) -> str:
    """Return a name for objects of Kubernetes: a letter, and then letters, digits and dashes."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-")
    # YAML takes some words for true, false or nothing.
    plain = made[:1].isalpha() and made not in ("y", "n", "yes", "no", "on", "off", "true", "false",
                                                "null")  # fmt: skip
    return made if plain else f"model-{made}".strip("-")


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], text)


_TEXTS = {
    "KIND": "texts", "USAGE": "TEXT...",
    "ROWS": '[{"text": word} for word in sys.argv[1:]]',
    "COLUMNS": '{"text": [word.encode() for word in sys.argv[1:]]}',
}
_PAIRS = {
    "KIND": "pairs", "USAGE": "TEXT OTHER_TEXT",
    "ROWS": '[{"text": sys.argv[1], "text_pair": sys.argv[2]}]',
    "COLUMNS": '{"text": [sys.argv[1].encode()], "text_pair": [sys.argv[2].encode()]}',
}
_IMAGES = {
    "KIND": "images", "USAGE": "IMAGE...",
    "ROWS": '[{"image_bytes": {"b64": base64.b64encode(Path(p).read_bytes()).decode()}}\n'
            "            for p in sys.argv[1:]]",
    "COLUMNS": '{"image_bytes": [Path(p).read_bytes() for p in sys.argv[1:]]}',
}

_MODELS = """\
# tensorflow_model_server --model_config_file=/models/@NAME@/serving/models.config
model_config_list {
  config {
    name: "@NAME@"
    base_path: "/models/@NAME@"
    model_platform: "tensorflow"
    # The newest version alone; `specific { versions: 1 versions: 2 }` serves several, to which
    # labels may be given: version_labels { key: "stable" value: 1 }
    model_version_policy { latest { num_versions: 1 } }
  }
}
"""

_BATCHING = """\
# tensorflow_model_server --enable_batching --batching_parameters_file=.../batching.config
# Requests that come within batch_timeout_micros are answered together. Two things follow:
# An example that cannot be answered (an image that cannot be decoded, a tf.train.Example without
# its text) fails all requests that were merged with its own. So compose.yaml and kubernetes.yaml of
# models on images have batching as comments.
# Requests to `tensors` with texts of different widths are refused where they meet
# (https://github.com/tensorflow/serving/issues/1934): pad all of them to one width.
# pad_variable_length_inputs is no cure: it fills up with the first element of a tensor
# (https://github.com/tensorflow/serving/issues/1279). Raw texts are not concerned.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
allowed_batch_sizes: 32
"""

_MONITORING = """\
# tensorflow_model_server --monitoring_config_file=.../monitoring.config
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

_COMPOSE = """\
# docker compose -f serving/compose.yaml up
# TensorFlow Serving 2.20 or later.
services:
  @OBJECT@:
    image: @IMAGE@
    ports:
      - "127.0.0.1:8500:8500"  # gRPC
      - "127.0.0.1:8501:8501"  # REST
    volumes:
      - ..:/models/@NAME@:ro
    command:
      - --model_config_file=/models/@NAME@/serving/models.config
      - --model_config_file_poll_wait_seconds=60
      - --monitoring_config_file=/models/@NAME@/serving/monitoring.config
      - --enable_batching=true
      - --batching_parameters_file=/models/@NAME@/serving/batching.config
    healthcheck:
      test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501"]  # sh has no /dev/tcp
      interval: 10s
      retries: 12
    restart: unless-stopped
"""

_KUBERNETES = """\
# kubectl apply -f serving/kubernetes.yaml
# The claim must hold this folder (the numbered versions and serving/) at its top.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: @OBJECT@
  labels: {app: @OBJECT@}
spec:
  replicas: 1
  selector:
    matchLabels: {app: @OBJECT@}
  template:
    metadata:
      labels: {app: @OBJECT@}
    spec:
      containers:
        - name: server
          image: @IMAGE@
          args:
            - --model_config_file=/models/@NAME@/serving/models.config
            - --model_config_file_poll_wait_seconds=60
            - --monitoring_config_file=/models/@NAME@/serving/monitoring.config
            - --enable_batching=true
            - --batching_parameters_file=/models/@NAME@/serving/batching.config
          ports:
            - {name: grpc, containerPort: 8500}
            - {name: rest, containerPort: 8501}
          readinessProbe:
            httpGet: {path: "/v1/models/@PATH@", port: rest}
            periodSeconds: 5
          livenessProbe:
            tcpSocket: {port: grpc}
            initialDelaySeconds: 60
          resources:
            requests: {cpu: "1", memory: 1Gi}
            limits: {memory: 2Gi}
          volumeMounts:
            - {name: models, mountPath: /models/@NAME@, readOnly: true}
      volumes:
        - name: models
          persistentVolumeClaim: {claimName: @OBJECT@-models, readOnly: true}
---
apiVersion: v1
kind: Service
metadata:
  name: @OBJECT@
spec:
  selector: {app: @OBJECT@}
  ports:
    - {name: grpc, port: 8500, targetPort: grpc}
    - {name: rest, port: 8501, targetPort: rest}
"""

_REST = '''\
"""Asks @NAME@ over REST: python client_rest.py @USAGE@

Needs the standard library alone. SERVER sets the address.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ.get("SERVER", "http://localhost:8501") + "/v1/models/@PATH@:predict"


def main() -> None:
    rows = @ROWS@
    body = json.dumps({"instances": rows}).encode()
    request = urllib.request.Request(URL, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            print(json.dumps(json.load(answer)["predictions"], indent=2, ensure_ascii=False))
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {error.read().decode()}") from error


if __name__ == "__main__":
    main()
'''

_GRPC = '''\
"""Asks @NAME@ over gRPC: python client_grpc.py @USAGE@

Needs `pip install tensorflow-serving-api`. SERVER sets the address.
"""

import os
import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main() -> None:
    columns = @COLUMNS@
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "@NAME@"
    request.model_spec.signature_name = "serving_default"
    for name, values in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(os.environ.get("SERVER", "localhost:8500")) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=30.0)
    for name in sorted(answer.outputs):
        print(name, tf.make_ndarray(answer.outputs[name]).tolist())


if __name__ == "__main__":
    main()
'''

_FILES = {
    "models.config": _MODELS,
    "batching.config": _BATCHING,
    "monitoring.config": _MONITORING,
    "compose.yaml": _COMPOSE,
    "kubernetes.yaml": _KUBERNETES,
    "client_rest.py": _REST,
    "client_grpc.py": _GRPC,
}
