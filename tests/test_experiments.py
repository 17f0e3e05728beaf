"""Every shipped experiment, run small on data of its layout; real data is read too."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft.config import composition
from kerasft.system.files import read_json

EXPERIMENTS = composition.options("experiment")
# Weights that may not be there give way to random ones: what is tried is the recipe.
TEXT = ["backbone=tiny_bert", "~backbone.preset", "backbone.sequence_length=16",
        "length_grouping=true"]  # fmt: skip
HYMENOPTERA = ["backbone.weights=null", "backbone.image_size=32", "finetune.head.epochs=1"]
IMAGES = {
    "hymenoptera_efficientnet_lite0": ["backbone.weights=null", "+backbone.image_size=32"],
    "hymenoptera_mobilenet": HYMENOPTERA,
    "hymenoptera_mobilenetv2": HYMENOPTERA,
    "trashnet_mobilenet": ["backbone=tiny_resnet", "~backbone.name", "~backbone.alpha",
                           "~backbone.resize", "~backbone.weights", "backbone.image_size=16",
                           "finetune.head.epochs=1"],
}  # fmt: skip
IMAGES["trashnet_mobilenetv2"] = IMAGES["trashnet_mobilenet"]
CELLS = ["backbone.weights=null", "backbone.image_size=[64,64]"]
IMAGES["shakespeare_stories"] = [
    "backbone=tiny_gpt2", "~backbone.preset", "backbone.sequence_length=32", "data.join=2",
]
IMAGES["sms_spam_gpt2"] = [
    "backbone=tiny_gpt2", "~backbone.preset", "backbone.sequence_length=16", "length_grouping=true",
]
IMAGES |= {"bccd_mobilenet": CELLS, "nuclei_mobilenet": CELLS, "rbc_wbc_mobilenet": CELLS}


def rows_of_texts(count):
    return [(f"a {('good', 'bad')[i % 2]} text, number {i}", i % 2) for i in range(count)]


def write(file: Path, rows, delimiter=",", header=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as out:
        quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
        csv.writer(out, delimiter=delimiter, quoting=quoting, quotechar='"').writerows(
            [header, *rows] if header else rows
        )


def jpeg(number):
    return encoded(np.random.default_rng(number).integers(0, 255, (40, 36, 3), np.uint8))


def encoded(pixels, form="JPEG"):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write_cells(root: Path):
    """Write images with boxes in files of VOC, and images with masks."""
    lists = root / "bccd_voc" / "BCCD" / "ImageSets" / "Main"
    for folder in (lists, *(root / "bccd_voc" / "BCCD" / n for n in ("Annotations", "JPEGImages"))):
        folder.mkdir(parents=True)
    for place, (split, count) in enumerate({"train": 20, "val": 6, "test": 6}.items()):
        names = [f"cell{place}_{i}" for i in range(count)]
        (lists / f"{split}.txt").write_text("\n".join(names))
        for folder in ("images", "masks"):
            (root / "nuclei_seg" / split / folder).mkdir(parents=True)
        for i, name in enumerate(names):
            image = jpeg(100 * place + i)
            (lists.parents[1] / "JPEGImages" / f"{name}.jpg").write_bytes(image)
            objects = "".join(
                f"<object><name>{kind}</name><bndbox><xmin>{3 + i % 9}</xmin><ymin>4</ymin>"
                f"<xmax>{20 + i % 9}</xmax><ymax>25</ymax></bndbox></object>"
                for kind in ("RBC", "WBC", "Platelets")
            )
            (lists.parents[1] / "Annotations" / f"{name}.xml").write_text(
                f"<annotation>{objects}</annotation>")
            mask = np.zeros((40, 36), np.uint8)
            mask[5 : 20 + i % 9, 5:15] = 255
            (root / "nuclei_seg" / split / "images" / f"{name}.jpg").write_bytes(image)
            (root / "nuclei_seg" / split / "masks" / f"{name}.png").write_bytes(
                encoded(mask, "PNG"))
        write_coco(root / "rbc_wbc_coco" / {"val": "valid"}.get(split, split), names)


def write_coco(folder: Path, names: list[str]):
    """Write images with two cells each, in the layout of Roboflow."""
    folder.mkdir(parents=True)
    cells = [{"category_id": k, "bbox": [3 * k, 4, 17, 21], "iscrowd": 0} for k in (1, 2)]
    for name in names:
        (folder / f"{name}.jpg").write_bytes(jpeg(sum(name.encode())))
    (folder / "_annotations.coco.json").write_text(json.dumps({
        "categories": [{"id": i, "name": name} for i, name in enumerate(["cells", "rbc", "wbc"])],
        "images": [{"id": i, "file_name": f"{name}.jpg", "height": 40, "width": 36}
                   for i, name in enumerate(names)],
        "annotations": [{"id": 2 * i + k, "image_id": i, **cells[k]}
                        for i in range(len(names)) for k in (0, 1)],
    }))  # fmt: skip


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    """Small data in the layouts of the real sets."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 48), ("dev", 12), ("test", 12)):
        texts = rows_of_texts(count)
        write(root / "sst2" / f"{split}.tsv", texts, "\t")
        write(root / "goemotions" / f"{split}.tsv",
              [(t, f"{i % 28},27" if i % 3 else i % 28, f"id{i}") for i, (t, _) in
               enumerate(texts)], "\t")  # fmt: skip
        write(root / "stsb" / f"{split}.csv",
              [(t, f"{t} again", (i % 11) / 2) for i, (t, _) in enumerate(texts)])  # fmt: skip
        name = {"dev": "val"}.get(split, split)
        write(root / "bengali_drama_sentiment" / f"{name}.csv",
              [(f"নাটক {t}", label) for t, label in texts], header=("text", "label"))  # fmt: skip
    (root / "wnut17").mkdir()
    for split, count in (("train", 40), ("dev", 10), ("test", 10)):
        (root / "wnut17" / f"{split}.conll").write_text("\n\n".join(
            f"post\tO\n{split}{i}\tO\nfrom\tO\nNew\tB-location\nYork\tI-location"
            for i in range(count)
        ))  # fmt: skip
    (root / "goemotions" / "labels.txt").write_text("\n".join(f"emotion{i}" for i in range(28)))
    write(root / "sms_spam" / "SMSSpamCollection",
          [("spam" if label else "ham", text) for text, label in rows_of_texts(80)], "\t")
    for split, count in (("train", 24), ("val", 8)):
        for label in ("ants", "bees"):
            folder = root / "hymenoptera" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.jpg").write_bytes(jpeg(f"{split}{label}{i}".encode()[-1] + i))
    (root / "tiny_shakespeare").mkdir()
    speeches = [f"SPEAKER {i % 7}:\nWhat is the matter, number {i}?" for i in range(90)]
    (root / "tiny_shakespeare" / "input.txt").write_text("\n\n".join(speeches), "utf-8")
    write_cells(root)
    (root / "trashnet").mkdir()
    with zipfile.ZipFile(root / "trashnet" / "trashnet.zip", "w") as archive:
        for label in ("cardboard", "glass", "metal", "paper", "plastic", "trash"):
            for i in range(12):
                archive.writestr(f"trashnet/{label}/{label}{i}.jpg", jpeg(len(label) * 100 + i))
    return root


def test_there_are_experiments():
    assert len(EXPERIMENTS) >= 9


# What the others add, tests of their parts try often enough.
OFTEN = ("sst2_minilm",)


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS
])  # fmt: skip
def test_an_experiment_runs_small(name, stand_in, monkeypatch, tmp_path):
    monkeypatch.setenv("KERASFT_DATA", str(stand_in))
    small = IMAGES.get(name, TEXT)
    result = kerasft.train([
        f"experiment={name}", *small, "debug=quick", "max_steps=1", "batch_size=16",
        "progress=false", f"output_dir={tmp_path / 'run'}",
    ])  # fmt: skip
    whole = kerasft.compose([f"experiment={name}"])
    assert set(result.metrics) == {"validation", "test"}
    assert result.finetuned.task.monitor == (whole.task.get("monitor") or
                                             type(result.finetuned.task).monitor)  # fmt: skip
    assert result.finetuned.task.monitor.removeprefix("val_") in result.metrics["test"]
    assert read_json("run/run.json")["status"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hymenoptera_mobilenet", "bccd_mobilenet", "nuclei_mobilenet"])
def test_learning_rates_are_found_for_it(name, stand_in, monkeypatch):
    monkeypatch.setenv("KERASFT_DATA", str(stand_in))
    found = kerasft.lr_find(
        [f"experiment={name}", *IMAGES[name], "batch_size=4", "progress=false"], updates=20
    )
    cfg = kerasft.compose([f"experiment={name}"])
    assert [one.name for one in found.stages] == list(cfg.finetune)
    for one in found.stages:
        assert len(one.curve.losses) >= 10 and one.curve.losses.min() < one.curve.losses[0]


@pytest.mark.every(6)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_reads_the_real_data(name, real_data, monkeypatch):
    monkeypatch.setenv("KERASFT_DATA", str(real_data))
    cfg = kerasft.compose([f"experiment={name}"])
    kerasft.check(cfg)
    source = real_data / Path(cfg.data.path).relative_to(real_data).parts[0]
    if not source.exists():
        pytest.skip(f"{source} is not there")
    task = composition.build(cfg.task)
    splits = composition.build(cfg.data, kind=task.kind, seed=cfg.seed)
    assert min(len(part) for part in splits.parts.values()) >= 10
    assert set(splits.parts) == {"train", "validation", "test"}
    ids = [i for part in splits.parts.values() for i in part.ids]
    assert len(set(ids)) == len(ids)
    weights = cfg.backbone.get("weights")
    if weights and os.sep in weights and not weights.startswith("package://"):
        assert Path(weights).is_file()
