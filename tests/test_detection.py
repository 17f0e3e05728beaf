"""Object detection from files to a served export, on small images of bright rectangles."""

from __future__ import annotations

import csv
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from interruption import require_equal, stopped_and_resumed
from PIL import Image
from rectangles import SIZE, words_of
from tiny_detectors import d_fine, retina, retina_detector

import kerasft
from kerasft.contracts import losses_of
from kerasft.errors import UserError
from kerasft.evaluation import boxes as evaluation
from kerasft.runs import evidence
from kerasft.runs.run_folder import RunFolder
from kerasft.serving.verify import verify
from kerasft.steps.measuring import drawing
from kerasft.steps.measuring.reopening import reopen
from kerasft.steps.preparing.prepare import build_task
from kerasft.tasks.detection import Detection


@pytest.fixture(scope="module")
def data(rectangles):
    return rectangles


@pytest.fixture(scope="module")
def words(data):
    return words_of(data)


@pytest.fixture(scope="module")
def trained(tiny_detector):
    return tiny_detector


@pytest.fixture(scope="module")
def opened(trained):
    """The run's model, loaded once for all that only ask it."""
    return reopen(str(trained))[1]


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_it_trains_and_what_it_came_to_is_written(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"map", "map_50", "precision", "recall", "f1", "ar_100"} <= metrics["test"].keys()
    assert metrics["test"]["per_class"]["red"].keys() >= {"map", "map_50", "f1", "boxes"}
    epochs = [json.loads(line) for line in lines_of(trained / "logs/epochs.jsonl")]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    lines = [json.loads(line) for line in lines_of(trained / "predictions/test.jsonl")]
    assert len(lines) == 12
    assert lines[0]["true"] == []
    assert set(lines[1]["true"][0]) == {"label", "box"}
    found = [one for line in lines for one in line["predicted"]["objects"]]
    assert all(one.keys() == {"label", "score", "box"} for one in found)
    assert json.loads((trained / "task.json").read_text())["thresholds"]
    for plot in ("test_objects", "test_precision_recall", "validation_precision_recall"):
        assert (trained / f"plots/{plot}.png").is_file()
    with open(trained / "predictions/test_unannotated.csv", newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) <= len(found)


def test_without_plots_what_is_not_annotated_is_listed_all_the_same(trained, tmp_path):
    run = RunFolder(tmp_path)
    shutil.copytree(trained / "predictions", tmp_path / "predictions")
    listed = tmp_path / "predictions/test_unannotated.csv"
    before = listed.read_bytes()
    listed.unlink()
    drawing.draw(SimpleNamespace(modality="images"), None, {}, run, "test", plots=False)
    assert listed.read_bytes() == before
    assert not run.plots.exists()


def test_it_is_evaluated_again(trained):
    again = kerasft.evaluate(str(trained))
    written = json.loads((trained / "metrics.json").read_text())
    assert again["test"]["map"] == pytest.approx(written["test"]["map"], abs=1e-6)


def test_boxes_are_those_of_the_image(opened, data, tmp_path):
    """The same image twice as large has boxes twice as large."""
    source = data / "test" / "test3.png"
    large = tmp_path / "large.png"
    with Image.open(source) as image:
        image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(large)
    small, big = (opened([str(path)]) for path in (source, large))
    count = int(small["num_detections"][0])
    assert count == int(big["num_detections"][0])
    np.testing.assert_allclose(2 * small["boxes"][0][:count], big["boxes"][0][:count], atol=1.0)


@pytest.mark.slow  # tests/test_new_kind.py stops one in each run of the tests
def test_a_run_that_is_stopped_ends_as_one_that_was_not(trained, words, tmp_path, monkeypatch):
    stopped_and_resumed(words, tmp_path / "run", monkeypatch)
    require_equal(trained, tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_mosaics_is_stopped_and_ends_as_one_that_was_not(words, tmp_path, monkeypatch):
    more = [*(word for word in words if word != "augment=boxes"), "augment=boxes_mosaic",
            "+augment.mixup={_target_: kerasft.data.mosaic.BoxMixUp}", "augment.mosaic.share=1.0"]
    kerasft.train([*more, f"output_dir={tmp_path}/plain"])
    stopped_and_resumed(more, tmp_path / "run", monkeypatch)
    require_equal(tmp_path / "plain", tmp_path / "run")
    # In the last of three epochs there are none.
    kerasft.train([*more, "augment.mosaic.stop=1.0", f"output_dir={tmp_path}/on"])
    rows = [[json.loads(line)["loss"] for line in lines_of(tmp_path / run / "logs/epochs.jsonl")]
            for run in ("plain", "on")]  # fmt: skip
    assert rows[0][:2] == rows[1][:2]
    assert rows[0][2] != rows[1][2]


@pytest.mark.slow
def test_small_images_first(words, tmp_path, monkeypatch):
    more = [
        *words, "finetune=two_phase", "finetune.head.train=all", "finetune.head.image_size=[40,48]",
        "finetune.head.epochs=2", "epochs=2",
    ]  # fmt: skip
    plain = kerasft.train([*more, f"output_dir={tmp_path}/plain"])
    rows = [json.loads(line) for line in lines_of(tmp_path / "plain/logs/epochs.jsonl")]
    assert [row.get("image_size") for row in rows] == ["40x48", "40x48", None, None]
    assert plain.history.best_epoch > 2
    # The same model as without: its boxes are those of the size that is served.
    preprocess = plain.finetuned.preprocess
    assert (preprocess.height, preprocess.width) == SIZE
    assert plain.finetuned.model.input_shape == (None, *SIZE, 3)
    stopped_and_resumed(more, tmp_path / "run", monkeypatch)
    require_equal(tmp_path / "plain", tmp_path / "run")


@pytest.mark.slow
def test_it_is_exported_and_proved(trained, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (export,) = kerasft.export(str(run)).values()
    proof = json.loads((export / "assets.extra/parity.json").read_text())
    assert proof["passed"]
    assert set(proof["signatures"]) == {
        "serving_default", "tensors", "object_detection_api",
    }  # fmt: skip
    assert all(one.result != "FAILED" for one in verify(export))


@pytest.mark.slow
def test_boxes_can_be_chosen_outside_of_the_graph(trained, data, tmp_path):
    """LiteRT gives candidates; what is written beside them says how boxes are chosen."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    folder = kerasft.export(str(run), ["export=litert"])["litert"]
    told = json.loads((folder / "preprocessing.json").read_text())["decision"]
    _, finetuned, _ = reopen(str(run))
    ask = interpreter.Interpreter(str(folder / "model.tflite")).get_signature_runner()
    compared = 0
    for i in range(12):
        raw = [(data / "test" / f"test{i}.png").read_bytes()]
        found = ask(images=finetuned.preprocess(raw).numpy())
        chosen = []
        for unit, (name, least) in enumerate(told["threshold"].items()):
            scores, boxes = found["scores"][0, :, unit], found["boxes"][0]
            left = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= least]
            while left:
                best, *left = left
                chosen.append((float(scores[best]), name, boxes[best]))
                left = [i for i in left
                        if overlap(boxes[best], boxes[i]) <= told["overlap"]]  # fmt: skip
        chosen = sorted(chosen, key=lambda one: -one[0])[: told["max_detections"]]
        model = finetuned.model(finetuned.preprocess(raw), training=False)
        wanted = finetuned.task.answers(model, finetuned.labels)
        count = int(wanted["num_detections"][0])
        assert len(chosen) == count
        for place, (score, name, box) in enumerate(chosen):
            assert wanted["labels"][0, place].numpy().decode() == name
            assert score == pytest.approx(float(wanted["scores"][0, place]), abs=1e-4)
            np.testing.assert_allclose(box, wanted["boxes"][0, place], atol=1e-2)
            compared += 1
    assert compared > 10


def overlap(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)


@pytest.mark.slow
def test_the_form_of_the_object_detection_api(trained, data, tmp_path):
    import tensorflow as tf

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    export = kerasft.export(str(run), ["export=saved_model"])["saved_model"]
    loaded = tf.saved_model.load(str(export))
    raw = tf.constant([(data / "test" / f"test{i}.png").read_bytes() for i in (3, 7)])
    plain = loaded.signatures["serving_default"](image_bytes=raw)
    found = loaded.signatures["object_detection_api"](image_bytes=raw)
    assert found["num_detections"].numpy().tolist() == plain["num_detections"].numpy().tolist()
    assert found["num_detections"].numpy().sum() > 2
    for i in range(2):
        with Image.open(io.BytesIO(raw[i].numpy())) as image:
            columns, rows = image.size
        left, top, right, bottom = plain["boxes"][i].numpy().T
        np.testing.assert_allclose(
            found["detection_boxes"][i], np.stack([top / rows, left / columns, bottom / rows,
                                                   right / columns], -1), atol=1e-6)
    np.testing.assert_array_equal(found["detection_classes"], plain["classes"].numpy() + 1)


@pytest.fixture(scope="module")
def anchored(words):
    """The same with anchors."""
    kept = [word for word in words if "head" not in word]
    return [*kept, "head=retinanet", "head.width=16", "head.depth=1",
            "head.anchor_size=2", "+head.finest=2", "+head.coarsest=4"]  # fmt: skip


@pytest.mark.slow
def test_the_loss_is_that_of_the_head(words, anchored):
    def loss_of(words):
        return build_task(kerasft.compose(words)).loss

    assert (loss_of(words), loss_of(anchored)) == ("task_aligned", "focal")
    assert loss_of([*anchored, "+task.loss=task_aligned"]) == "task_aligned"
    assert loss_of([*words, "+task.loss=task_aligned"]) == "task_aligned"
    with pytest.raises(UserError, match=r"task\.loss=focal does not train this head.*task_aligned"):
        loss_of([*words, "+task.loss=focal"])
    # Heads of others say nothing, and take what the task is told.
    assert losses_of(lambda features, classes: features) == ()
    assert Detection(loss="focal").for_losses(()).loss == "focal"
    assert Detection().for_losses(()).loss is None
    with pytest.raises(UserError, match=r"task\.loss must be one of task_aligned, focal"):
        Detection().for_losses(("hinge",))
    queries = [word for word in words if "head" not in word] + ["head=dfine"]
    assert loss_of(queries) == "queries"
    with pytest.raises(UserError, match=r"task\.loss=task_aligned does not train.*a query of the"):
        loss_of([*queries, "+task.loss=task_aligned"])
    # One query an object: no two boxes of one need be told apart.
    assert [Detection(loss=loss).suppressed for loss in (None, "queries")] == [0.6, 1.0]
    assert Detection(loss="queries", overlap=0.7).suppressed == 0.7


def require_measured_and_resumed(words, loss, folder, monkeypatch):
    """Check that a run in `plain` has its figures again, and that a stopped one ends alike."""
    plain = folder / "plain"
    assert json.loads((plain / "task.json").read_text())["loss"] == loss
    again = kerasft.evaluate(str(plain))["test"]["map"]
    written = json.loads((plain / "metrics.json").read_text())["test"]["map"]
    assert again == pytest.approx(written, abs=1e-6)
    stopped_and_resumed(words, folder / "run", monkeypatch)
    require_equal(plain, folder / "run")


@pytest.mark.slow
def test_anchors_are_trained_resumed_and_exported(anchored, tmp_path, monkeypatch):
    kerasft.train([*anchored, f"output_dir={tmp_path}/plain"])
    epochs = [json.loads(line) for line in lines_of(tmp_path / "plain/logs/epochs.jsonl")]
    assert epochs[-1]["loss"] < 0.9 * epochs[0]["loss"]
    require_measured_and_resumed(anchored, "focal", tmp_path, monkeypatch)
    # Each of them is proved on held-out images, or there is none.
    made = kerasft.export(str(tmp_path / "run"), ["export=[saved_model,onnx,litert]"])
    assert set(made) == {"saved_model", "onnx", "litert"}
    proof = json.loads((made["saved_model"] / "assets.extra/parity.json").read_text())
    assert proof["passed"]


@pytest.fixture
def of_retina_net(anchored, tmp_path):
    """The same with the head of a RetinaNet preset that is in `preset`, as far as it fits."""
    kept = [word for word in anchored
            if not any(part in word for part in ("backbone", "finest", "width"))]  # fmt: skip
    return [*kept, "backbone=preset", f"backbone.preset={tmp_path}/preset",
            f"+backbone.image_size=[{SIZE[0]},{SIZE[1]}]", "+backbone.resize=stretch"]  # fmt: skip


@pytest.mark.slow
def test_a_retinanet_preset_without_a_detector_is_trained(of_retina_net, tmp_path, capsys):
    retina(coarsest=5).save_to_preset(str(tmp_path / "preset"))
    kerasft.train([*of_retina_net, "head.width=16", "max_steps=2", "epochs=1",
                   f"output_dir={tmp_path}/run"])  # fmt: skip
    said = capsys.readouterr().out
    assert "head: the subnets are new: the preset is of the network alone" in said
    _, finetuned, _ = reopen(str(tmp_path / "run"))
    names = [layer.name for layer in finetuned.model.layers]
    assert "lateral_conv_P3" in names and "head_lateral_3" not in names


@pytest.mark.slow
def test_the_head_of_a_retinanet_preset_is_trained_resumed_and_exported(
    of_retina_net, tmp_path, monkeypatch, capsys
):
    retina_detector().save_to_preset(str(tmp_path / "preset"))
    more = [*of_retina_net, "optimizer.learning_rate=1e-3", "epochs=2"]
    kerasft.train([*more, f"output_dir={tmp_path}/plain"])
    said = capsys.readouterr().out
    assert "head: the preset's subnets with their weights; the layers that place boxes" in said
    assert "head.anchor_size=2" in said
    epochs = [json.loads(line) for line in lines_of(tmp_path / "plain/logs/epochs.jsonl")]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    require_measured_and_resumed(more, "focal", tmp_path, monkeypatch)
    (export,) = kerasft.export(str(tmp_path / "run")).values()
    assert json.loads((export / "assets.extra/parity.json").read_text())["passed"]


@pytest.fixture
def whole_d_fine(words, tmp_path):
    """A D-FINE preset with its decoder."""
    d_fine(lively=True).save_to_preset(str(tmp_path / "preset"))
    kept = [word for word in words if "head" not in word and "backbone" not in word]
    return [
        *kept, "head=dfine", "backbone=preset", f"backbone.preset={tmp_path}/preset",
        "+backbone.image_size=[64,96]", "+backbone.resize=stretch",
        "optimizer.learning_rate=2e-3",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_d_fine_preset_is_exported(whole_d_fine, data, tmp_path):
    run = tmp_path / "run"
    kerasft.train([*whole_d_fine, "epochs=1", "max_steps=2", f"output_dir={run}"])
    # So little trained, it is sure of nothing: any guess is answered, to have some to compare.
    task = json.loads((run / "task.json").read_text())
    (run / "task.json").write_text(json.dumps({**task, "thresholds": [0.005, 0.005]}))
    (export,) = kerasft.export(str(run)).values()
    assert json.loads((export / "assets.extra/parity.json").read_text())["passed"]
    images = [str(data / "test" / f"test{i}.png") for i in range(4)]
    mine, theirs = (kerasft.predict(str(where), images) for where in (run, export))
    assert sum(len(one["objects"]) for one in mine) > 8
    for one, other in zip(mine, theirs, strict=True):
        assert len(one["objects"]) == len(other["objects"])


@pytest.mark.slow
def test_a_d_fine_preset_is_trained_and_resumed(whole_d_fine, tmp_path, monkeypatch, capsys):
    more = whole_d_fine
    kerasft.train([*more, f"output_dir={tmp_path}/plain"])
    assert "the layers that tell classes apart are new" in capsys.readouterr().out
    epochs = [json.loads(line) for line in lines_of(tmp_path / "plain/logs/epochs.jsonl")]
    assert epochs[-1]["loss"] < 0.95 * epochs[0]["loss"]
    assert epochs[-1]["val_loss"] < epochs[0]["val_loss"]
    require_measured_and_resumed(more, "queries", tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_ways_of_others_are_refused(words, tmp_path):
    for more, said in {
        "head=linear": "head", "augment=mixup": "augment=boxes", "augment=light": "fill_mode",
        "task=classification": "does not fit", "data=digits": "learns boxes",
        "backbone=tiny_bert": "takes text",
    }.items():  # fmt: skip
        kept = [word for word in words
                if word.split("=")[0].split(".")[0].strip("+") != more.split("=")[0]]  # fmt: skip
        with pytest.raises(UserError) as caught:
            kerasft.train([*kept, more, f"output_dir={tmp_path / more.replace('=', '_')}"])
        assert said in str(caught.value), (more, str(caught.value))


def test_figures_are_of_the_answers(trained, opened):
    """What the run kept gives the figures that it wrote."""
    kept = evidence.read(RunFolder(trained)).measured["test"]
    statistics = opened.statistics(*kept)
    assert evaluation.coco(statistics)["map"] == pytest.approx(
        json.loads((trained / "metrics.json").read_text())["test"]["map"]
    )
