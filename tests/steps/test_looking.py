"""What `kerasft check` looks at before anything is read."""

from __future__ import annotations

import json
import re

import pytest

from kerasft import compose
from kerasft.errors import UserError
from kerasft.steps.looks.looking import look

TABLE = ("data=table", "data.text=review", "data.label=stars", "backbone=tiny_bert")


def found(*overrides):
    return look(compose(list(overrides)))


def problems(*overrides) -> list[str]:
    with pytest.raises(UserError) as caught:
        found(*overrides)
    return list(caught.value.problems)


@pytest.fixture
def table(tmp_path):
    """Write a table of a kind, and return the overrides that read it."""

    def write(name: str, *further: str) -> list[str]:
        file = tmp_path / name
        rows = [{"review": "a, b", "stars": "1"}] * 3
        if name.endswith(".parquet"):
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        elif name.endswith(".jsonl"):
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        elif name.endswith(".json"):
            file.write_text(json.dumps(rows), "utf-8")
        else:
            sign = "\t" if name.endswith(".tsv") else ","
            file.write_text(f'\ufeff"review"{sign}stars\n' + f'"a, b"{sign}1\n' * 3, "utf-8")
        return [*TABLE, f"data.path={file}", *further]

    return write


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_columns_are_found_in_the_beginning_of_a_file(name, table):
    said = found(*table(name))
    assert any("is there, with the columns 'review', 'stars'" in one for one in said.checked)
    assert "the data is texts, and the backbone takes texts" in said.checked
    assert "the rows of the table and their labels" in said.unchecked


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_not_there_is_told(name, table):
    (problem,) = problems(*table(name, "data.label=star"))
    assert "data.label" in problem and "'stars'" in problem


def test_what_a_later_line_may_hold_is_not_told_of(table):
    said = found(*table("a.jsonl", "data.label=other"))
    assert any("the first 100 lines of a.jsonl lack" in one for one in said.unchecked)
    assert any("the columns of a.json" in one for one in found(*table("a.json")).unchecked)


def test_all_problems_are_told_at_once(table):
    told = problems(
        *table("a.csv", "data.text=reviews", "data.test=nowhere.csv", "backbone=tiny_resnet")
    )
    assert len(told) == 2  # what the data is, it cannot say then
    assert any("nowhere.csv" in one for one in told) and any("reviews" in one for one in told)


def test_a_part_of_more_than_all_is_told(table):
    told = problems(*table("a.csv", "data.validation=1.5", "data.test=-0.1"))
    assert len(told) == 2
    assert "Received: data.validation=1.5." in told[0] and "data.test=-0.1" in told[1]


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "said"), [
    (["data=digits", "backbone=tiny_bert"], "The data is images, but the backbone"),
    (["data=digits", "backbone.preset=bert_tiny_en_uncased", "backbone=preset"],
     "The data is images, but the backbone bert_tiny_en_uncased takes text"),
    (["data=image_folder", "data.path=nowhere"], "data.path: there is no file or folder"),
    (["task=detection", "head=anchor_free", "augment=cutmix"], "augment.cutmix: keras.layers.Cut"),
    (["task=detection", "head=anchor_free", "augment=light"], "fill_mode=reflect"),
    (["callbacks.early_stopping.monitor=val_acuracy"], "val_acuracy"),
    (["checkpoint.keep=0"], "checkpoint.keep at least 1"),
])  # fmt: skip
def test_what_does_not_fit_is_told(overrides, said):
    assert any(said in one for one in problems(*overrides))


def test_augmentation_of_texts_is_told(table):
    assert any("flip changes images" in one for one in problems(*table("a.csv", "augment=light")))


RARE = ["augment=mixup", "epochs=5"]


@pytest.mark.parametrize(("overrides", "said"), [
    (["augment=text"], "augment.delete changes texts, but the data is images"),
    ([*RARE, "augment.mixup.stop=2"], "augment.mixup.stop must be a share of the epochs"),
    ([*RARE, "augment.mixup.stop=-5"], "leaves the last 5 epochs without, and there are 5"),
    (["task=detection", "head=anchor_free", "augment=mixup"], "augment.mixup: keras.layers.MixUp"),
    (["task=regression", "sampling=balanced"], "the labels of this task are no classes"),
    (["sampling=balanced", "sampling.exponent=2"], "sampling.exponent must be from 0"),
])  # fmt: skip
def test_what_regularizers_of_the_data_cannot_do_is_told(overrides, said):
    told = problems("data=digits", "backbone=tiny_resnet", *overrides)
    assert any(said in one for one in told), told


@pytest.mark.every(3)
@pytest.mark.parametrize("overrides", [
    [*RARE, "augment.mixup.stop=-4"], [*RARE, "augment.mixup.stop=1"],
    ["augment=cutmix", "task=multi_label"], ["sampling=balanced", "task=multi_label"],
    ["task=detection", "head=anchor_free", "augment=boxes_mosaic", "augment.mosaic.stop=-2",
     "sampling=balanced", "epochs=3", "data=coco", "data.path=."],
    # Three epochs of the head count too.
    ["augment=mixup", "epochs=2", "finetune=two_phase", "augment.mixup.stop=-4"],
])  # fmt: skip
def test_what_they_can_do_is_not(overrides):
    assert found("data=digits", "backbone=tiny_resnet", *overrides).checked


def test_what_only_loading_tells_is_listed(tmp_path):
    said = found("backbone=keras_file", f"backbone.path={tmp_path}/x.keras")
    assert "whether the backbone takes what the data is" in said.unchecked
    assert re.match(r"Checked:\n  - .*\nNot checked:\n  - ", str(said), re.S)


def test_sources_of_ones_own_may_say_nothing(tmp_path, monkeypatch):
    (tmp_path / "own_source.py").write_text("def make(*, kind, seed): pass\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = compose(["data=digits"])
    cfg.data._target_ = "own_source.make"
    said = look(cfg)
    assert any("own_source.make tells nothing before it is read" in o for o in said.unchecked)


@pytest.mark.slow
def test_a_head_that_does_not_fit_the_task_is_told():
    (said, _) = problems("data=digits", "task=detection", "head=linear", "backbone=tiny_resnet")
    assert "head=anchor_free" in said
    assert "the head takes what the task tells it" in found("backbone=tiny_resnet").checked


@pytest.mark.parametrize(("overrides", "said"), [
    (["data=digits", "task=detection", "head=anchor_free"], "learns boxes, and this data has none"),
    (["data=image_folder", "data.path=.", "task=segmentation", "head=decoder"],
     "this data has no masks"),
    (["data=coco", "data.path=."], "data=coco reads boxes around objects"),
    (["data=mask_folder", "data.path=.", "task=detection", "head=anchor_free"],
     "data=mask_folder reads masks of images"),
])  # fmt: skip
def test_labels_of_another_kind_than_the_task_learns_are_told(overrides, said):
    told = problems("backbone=tiny_resnet", *overrides)
    assert any(said in one for one in told), told


def test_where_only_reading_tells_the_kind_of_labels_it_is_listed(table):
    kind = "whether the labels are of the kind that the task learns"
    assert kind in found("data=tfds", "data.name=beans", "backbone=tiny_resnet").unchecked
    assert kind not in found(*table("a.csv")).unchecked
    (said,) = problems(*table("a.csv", "task=tagging", "head=tokens"))
    assert said.startswith("task=tagging learns entities in texts, and this data has none")


BOXES = ("task=detection", "head=anchor_free", "data=boxes_csv", "backbone=tiny_resnet")
MASKS = ("task=segmentation", "head=decoder", "data=masks_table", "backbone=tiny_resnet")


def of_header(tmp_path, header: str, *overrides: str) -> list[str]:
    file = tmp_path / "drawn.csv"
    file.write_text(f"{header}\n" + ",".join("1" * len(header.split(","))) + "\n", "utf-8")
    return [*overrides, f"data.path={file}"]


def test_columns_of_boxes_and_masks_are_looked_for(tmp_path):
    usual = "filename,class,xmin,ymin,xmax,ymax"
    said = found(*of_header(tmp_path, usual, *BOXES))
    assert any("is there, with the columns 'filename', 'class'" in one for one in said.checked)
    named = ("data.image={file}.jpg", "data.label=kind", "data.box=[x,y,w,h]")
    assert found(*of_header(tmp_path, "file,kind,x,y,w,h", *BOXES, *named)).checked
    told = problems(*of_header(tmp_path, "file,kind,x,y,w,h", *BOXES))
    keys = [one.partition(":")[0] for one in told]
    assert keys == ["data.image", "data.label", *["data.box"] * 4]
    assert problems(*of_header(tmp_path, usual, *BOXES, "+data.split_column=part"))
    listed = found(*of_header(tmp_path, "image,bbox,category", *BOXES))
    assert "which columns of drawn.csv hold images, boxes and their classes" in listed.unchecked
    assert found(*of_header(tmp_path, "image,mask", *MASKS)).checked
    (said,) = problems(*of_header(tmp_path, "image,other", *MASKS))
    assert said.startswith("data.masks must name the column of masks")
    (said,) = problems(*of_header(tmp_path, "image,mask", *MASKS, "data.masks=maks"))
    assert "Did you mean 'mask'?" in said
    (said,) = problems(*of_header(tmp_path, "image,mask", *MASKS, "+data.images=nowhere"))
    assert "nowhere" in said


@pytest.mark.parametrize(
    ("data", "template", "told"),
    [
        ("data.messages=m", None, r"become tokens by a template.*template=plain.*no template"),
        ("data.prompt=q data.answer=a", None, r"become tokens by a template"),
        ("data.text=t", "alpaca", r"holds documents, which take no template.*template=null"),
        ("text_files", "plain", r"holds documents, which take no template"),
    ],
)
def test_conversations_take_a_template_and_documents_take_none(data, template, told, tmp_path):
    (tmp_path / "a.txt").write_text("a", "utf-8")
    (tmp_path / "a.jsonl").write_text('{"m": []}', "utf-8")
    name = "text_files" if data == "text_files" else "chat"
    ending = "txt" if data == "text_files" else "jsonl"
    words = ["task=causal_lm", "head=language", "backbone=tiny_gpt2", f"data={name}",
             f"data.path={tmp_path / 'a'}.{ending}"]  # fmt: skip
    words += [] if data == "text_files" else data.split()
    (said,) = problems(*words, *([f"template={template}"] if template else []))
    assert re.search(told, said)
    checked = found(*words, *([] if template else ["template=plain"])).checked
    assert any("template" in one for one in checked)
