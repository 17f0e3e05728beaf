"""What the README tells a reader to type does what the README says, on small runs."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SMALL = ["debug=quick", "progress=false"]


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    return re.split(r"^## ", README.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def lines(title: str) -> list[list[str]]:
    """Return the words of each line that a reader types in a section."""
    found = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", section(title), re.M | re.S):
        if language == "console":
            found += [shlex.split(line[2:]) for line in block.splitlines() if line[:2] == "$ "]
        elif language == "sh":
            found += [shlex.split(line) for line in block.splitlines()]
    return found


def image(number: int, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (36, 40, 3), np.uint8)
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@pytest.mark.slow
def test_the_five_minutes_run_from_the_first_line_to_the_last(kerasft_cli):
    said = {}
    for words in lines("Five minutes"):
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True, timeout=120)
            assert Path("seven.png").is_file()
            continue
        assert words[0] == "kerasft"
        wrong = any("depht" in word for word in words)
        ended = kerasft_cli(*words[1:], *(SMALL if words[1] == "train" else []))
        assert ended.code == (2 if wrong else 0), (words, ended.err)
        said[shlex.join(words)] = ended.err if wrong else ended.out
    first, grid = [text for line, text in said.items() if line.startswith("kerasft train")]
    assert "from scratch" in first
    assert "run folder: outputs/digits/" in first
    assert "sweep: 4 runs in outputs/digits/" in grid
    assert re.search(r"^rank +run .* learning_rate ", grid, re.M)
    exported = next(text for line, text in said.items() if line.startswith("kerasft export"))
    assert ", 0 other labels" in exported
    answers = [text for line, text in said.items() if line.startswith("kerasft predict")]
    assert len(answers) == 2
    # Of the run and of its export: the same labels, and numbers that may round to either side.
    run, exported = (re.split(r"(\d\.\d{6})", text) for text in answers)
    assert run[::2] == exported[::2]
    np.testing.assert_allclose([float(n) for n in run[1::2]], [float(n) for n in exported[1::2]],
                               atol=2e-6)
    wrong = next(text for line, text in said.items() if line.startswith("kerasft check"))
    shown = section("Five minutes")
    for line in wrong.splitlines():
        assert line in shown, line


@pytest.mark.slow
def test_the_python_block_runs():
    subprocess.run([sys.executable, *lines("Five minutes")[1][1:]], check=True, timeout=120)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len(blocks) == 1
    small = blocks[0].replace('"epochs=5"', '"debug=quick", "baseline=null", "progress=false"')
    assert small != blocks[0]
    names: dict = {}
    exec(compile(small, "README.md", "exec"), names)
    assert sorted(names["result"].metrics) == ["test", "validation"]
    assert (names["result"].output_dir / "exports" / "saved_model" / "1").is_dir()


def draw_cells(boxes: Path, masks: Path) -> None:
    """Write images with a cell each: its box in the layout of COCO, and its mask beside it."""
    for folder in (boxes, masks / "images", masks / "masks"):
        folder.mkdir(parents=True)
    ids = range(24)
    for i in ids:
        (boxes / f"{i}.png").write_bytes(image(i))
        (masks / "images" / f"{i}.png").write_bytes(image(i))
        mask = np.zeros((36, 40), np.uint8)
        mask[5:20, 6 : 15 + i % 9] = 255
        Image.fromarray(mask).save(masks / "masks" / f"{i}.png")
    (boxes / "_annotations.coco.json").write_text(json.dumps({
        "categories": [{"id": 1, "name": "cell"}],
        "images": [{"id": i, "file_name": f"{i}.png", "height": 36, "width": 40} for i in ids],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [6, 5, 9 + i % 9, 15], "iscrowd": 0}
            for i in ids
        ],
    }))  # fmt: skip


@pytest.fixture(scope="module")
def own_data(tmp_path_factory) -> dict[str, str]:
    """Small data for each word in capitals."""
    tf = pytest.importorskip("tensorflow")
    root = tmp_path_factory.mktemp("own")
    for label in ("day", "night"):
        (root / "PHOTOS" / label).mkdir(parents=True)
        for i in range(12):
            (root / "PHOTOS" / label / f"{i}.png").write_bytes(image(i + 100 * (label == "day")))
    tables = {
        "REVIEWS.csv": (("review", "stars"), [(f"text {i}", i % 3 + 1) for i in range(60)]),
        "PAIRS.csv": (("first", "second", "score"),
                      [(f"text {i}", f"word {i}", i % 7 / 2) for i in range(60)]),
        "POSTS.csv": (("post", "topics"),
                      [(f"post {i}", ("tea", "tea,milk", "milk")[i % 3]) for i in range(60)]),
    }  # fmt: skip
    (root / "images").mkdir()
    for i in range(24):
        (root / "images" / f"{i}.jpg").write_bytes(image(i, "JPEG"))
    ids = [(f"{i}", ("day", "night")[i % 2]) for i in range(24)]
    tables |= {"train.csv": (("id", "label"), ids), "test.csv": (("id",), [(i,) for i, _ in ids])}
    for name, (header, rows) in tables.items():
        with open(root / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    lines_of = [f"{('good', 'bad')[i % 2]} text {i}\n" for i in range(60)]
    (root / "REVIEWS.txt").write_text("".join(lines_of))
    draw_cells(root / "CELLS", root / "MASKS")
    (root / "CONLL").write_text("\n\n".join(
        f"post O\n{i} O\nfrom O\nNew B-place\nYork I-place" for i in range(40)
    ))  # fmt: skip
    (root / "SHARDS").mkdir()
    for shard in range(2):
        with tf.io.TFRecordWriter(str(root / "SHARDS" / f"train-{shard}")) as writer:
            for i in range(20):
                example = tf.train.Example()
                feature = example.features.feature
                feature["image/encoded"].bytes_list.value.append(image(20 * shard + i))
                feature["image/class/label"].int64_list.value.append(i % 2)
                writer.write(example.SerializeToString())
    words = ("PHOTOS", *tables, "REVIEWS.txt", "CELLS", "CONLL", "SHARDS")
    return {name: str(root / name) for name in words} | {"MASKS": str(root / "MASKS")}


# TensorFlow Datasets downloads what it is asked for; that its config is sound is tested elsewhere.
OWN = [words for words in lines("Bring your own data") if "data=tfds" not in words]


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    pytest.param(words, id=" ".join(words[2:4])[:50],
                 marks=() if "data.path=REVIEWS.csv" in words[3:4] else pytest.mark.slow)
    for words in OWN
])  # fmt: skip
def test_the_lines_for_data_of_ones_own_run(words, own_data, kerasft_cli):
    if words[1] == "predict":  # with the run of the line above it
        before = OWN[OWN.index(words) - 1]
        test_the_lines_for_data_of_ones_own_run(before, own_data, kerasft_cli)
        ended = kerasft_cli("predict", *(own_data.get(word, word) for word in words[2:]))
        assert ended.code == 0 and "24 rows in answers.csv" in ended.out, ended.err
        return
    assert words[:2] == ["kerasft", "train"]
    typed = []
    for word in words[2:]:
        if "data=mask_folder" in words:
            word = word.replace("CELLS", "MASKS")
        for name, path in own_data.items():
            word = word.replace(name, path)
        # Weights that would be downloaded give way to random ones.
        if word.startswith("backbone.preset="):
            word = "backbone=tiny_bert"
        elif word == "backbone.name=MobileNetV2":
            typed += ["backbone.weights=null", "backbone.image_size=32", "backbone.alpha=0.35"]
        typed.append(word)
    if "finetune=two_phase" in typed:
        typed.append("finetune.head.epochs=1")
    ended = kerasft_cli("train", *typed, *SMALL, "batch_size=8")
    assert ended.code == 0, ended.err
    assert "test" in ended.out
    assert "run folder: outputs/" in ended.out
