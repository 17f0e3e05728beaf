"""Detectors and segmentations over REST and gRPC: answers in the pixels of each image."""

from __future__ import annotations

import base64
import io

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import kerasft

pytestmark = [pytest.mark.enable_socket, pytest.mark.slow]
# Rows and columns of images, all at odds with what the network sees.
SIZES = ((61, 83), (37, 129), (64, 80), (200, 33))


def images() -> list[bytes]:
    """Return images of several sizes and forms, the last one stored turned."""
    made = []
    for i, (rows, columns) in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 60, (rows, columns, 3)).astype("uint8")
        pixels[rows // 4 : rows // 4 + 20, columns // 4 : columns // 4 + 24] = (230, 40, 40)
        pixels[rows // 2 : rows // 2 + 18, columns // 2 : columns // 2 + 15] = (40, 230, 40)
        file, exif = io.BytesIO(), Image.Exif()
        if last := i == len(SIZES) - 1:
            exif[0x0112] = 6
        Image.fromarray(pixels).save(file, "JPEG" if last else "PNG", quality=95, exif=exif)
        made.append(file.getvalue())
    return made


def seen(i: int) -> tuple[int, int]:
    """Return rows and columns of an image as it is seen."""
    return SIZES[i][::-1] if i == len(SIZES) - 1 else SIZES[i]


def over_grpc(server, raw: list[bytes], signature: str) -> dict[str, np.ndarray]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = server.server.model.name
    request.model_spec.signature_name = signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(raw))
    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=60)
    return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def in_json(raw: list[bytes]) -> list[dict[str, str]]:
    return [{"b64": base64.b64encode(one).decode()} for one in raw]


def over_rest(server, raw: list[bytes], signature: str) -> tuple[dict, list[dict]]:
    """Return the answer in columns, and that in rows."""
    named = {"signature_name": signature}
    code, columns = server.ask(":predict", {**named, "inputs": {"image_bytes": in_json(raw)}})
    assert code == 200, columns
    rows = [{"image_bytes": one} for one in in_json(raw)]
    code, found = server.ask(":predict", {**named, "instances": rows})
    assert code == 200, found
    return columns["outputs"], found["predictions"]


def plain(value):
    """Return strings for bytes, as JSON has them."""
    return np.array([one.decode() for one in value.ravel()]).reshape(value.shape) if (
        value.dtype == object) else value  # fmt: skip


def require_same(wanted: dict[str, np.ndarray], server, raw: list[bytes], signature: str) -> None:
    """Hold what both servers answer, to all at once and to each alone, against an export."""
    columns, rows = over_rest(server, raw, signature)
    for found in (over_grpc(server, raw, signature), columns,
                  {name: [row[name] for row in rows] for name in rows[0]}):  # fmt: skip
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            given = plain(np.asarray(found[name]))
            if plain(value).dtype.kind in "iU":
                np.testing.assert_array_equal(given, plain(value))
            else:
                np.testing.assert_allclose(given, value, atol=1e-3)


def asked(export, raw: list[bytes], signature: str) -> dict[str, np.ndarray]:
    function = tf.saved_model.load(str(export)).signatures[signature]
    return {name: value.numpy() for name, value in function(image_bytes=tf.constant(raw)).items()}


def test_boxes(tiny_detector, serve, tmp_path):
    target, raw = tmp_path / "cells", images()
    kerasft.export(str(tiny_detector), [f"export.saved_model.directory={target}"])
    wanted = asked(target / "1", raw, "serving_default")
    assert {"boxes", "scores", "classes", "labels", "num_detections"} == wanted.keys()
    assert (wanted["num_detections"] > 0).all(), "an image in which nothing is found shows nothing"
    with serve(target) as server:
        for signature in ("serving_default", "object_detection_api"):
            require_same(asked(target / "1", raw, signature), server, raw, signature)
        for i, one in enumerate(raw):
            found = over_grpc(server, [one], "serving_default")
            count = int(found["num_detections"][0])
            assert count == wanted["num_detections"][i]
            np.testing.assert_allclose(found["boxes"][0], wanted["boxes"][i], atol=0.05)
            assert (found["labels"][0] == wanted["labels"][i]).all()
            rows, columns = seen(i)
            boxes = found["boxes"][0][:count]
            assert (boxes >= 0).all()
            assert (boxes <= [columns, rows, columns, rows]).all()
            assert boxes[:, 2].max() > columns / 4
        # One that is no image is named by its place, and the server goes on.
        code, said = server.ask(":predict", {"instances": [
            {"image_bytes": one} for one in in_json([raw[0], b"no image"])
        ]})  # fmt: skip
        assert code == 400
        assert "image" in said["error"]
        assert over_grpc(server, raw[:1], "serving_default")["num_detections"][0] > 0


def test_masks(tiny_segmenter, serve, tmp_path):
    target, raw = tmp_path / "cells", images()
    kerasft.export(str(tiny_segmenter), [f"export.saved_model.directory={target}"])
    with serve(target) as server:
        wanted = asked(target / "1", raw, "serving_default")
        found = over_grpc(server, raw, "serving_default")
        assert found["png_bytes"].tolist() == wanted["png_bytes"].tolist()
        columns, rows = over_rest(server, raw, "serving_default")
        for i, png in enumerate(wanted["png_bytes"]):
            coded = {"b64": base64.b64encode(png).decode()}
            assert columns["png_bytes"][i] == rows[i]["png_bytes"] == coded
            with Image.open(io.BytesIO(png)) as mask:
                assert mask.size == seen(i)[::-1]
            np.testing.assert_allclose(rows[i]["shares"], wanted["shares"][i], atol=1e-6)
        require_same(asked(target / "1", raw, "class_map"), server, raw, "class_map")
