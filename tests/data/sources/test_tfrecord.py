import gzip
import io

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.tfrecord import Records, scan, tfrecord
from kerasft.errors import UserError


def png(number):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(path, rows):
    import tensorflow as tf

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if not values or isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {name: feature(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


IMAGES = [{"image": png(i), "label": i % 2, "who": f"g{i // 4}".encode()} for i in range(40)]
TEXTS = [{"text": f"আমি {i}\0".encode(), "label": b"xy"[i % 2 : i % 2 + 1]} for i in range(40)]


def ask(path, **settings):
    return tfrecord(str(path), **{"kind": "single", "seed": 0, "label": "label", **settings})


def test_images_are_read_late(tmp_path):
    write(tmp_path / "train-0.tfrecord", IMAGES[:20])
    write(tmp_path / "train-1.tfrecord", IMAGES[20:])
    splits = ask(tmp_path, image="image", label_names=["even", "odd"])
    assert [len(p) for p in splits.parts.values()] == [28, 6, 6]
    assert splits.labels.names == ("even", "odd")
    for part in splits.parts.values():
        assert isinstance(part.inputs, Records)
        for name, content, label in zip(part.ids, part.inputs, part.labels, strict=True):
            file, number = name.split(":")
            row = IMAGES[int(number) + 20 * (file == "train-1.tfrecord")]
            assert (content, label) == (row["image"], row["label"])
    taken = splits.train.take([2, 0])
    assert taken.inputs[1] == splits.train.inputs[0]
    assert splits.train.inputs[:3][2] == splits.train.inputs[2]


def test_texts_patterns_and_files(tmp_path):
    write(tmp_path / "train-0", TEXTS)
    write(tmp_path / "val-0", TEXTS[:4])
    splits = ask(tmp_path / "train-*", text="text", validation=str(tmp_path / "val-*"), test=0)
    assert [len(p) for p in splits.parts.values()] == [40, 4]
    assert splits.train.inputs[0] == "আমি 0\0"
    assert splits.labels.names == ("x", "y")
    assert splits.validation.ids[0] == "validation/val-0:0"
    assert any("4 texts of validation are exact copies" in n for n in splits.notices)


def test_several_labels_numbers_pairs_and_groups(tmp_path):
    rows = [
        {"a": b"a%d" % i, "b": b"b%d" % i, "score": i / 2, "tags": [i % 2, 2], "who": i // 4}
        for i in range(40)
    ]
    path = write(tmp_path / "x.tfrecord", rows)
    splits = ask(path, kind="number", text="a", text_pair="b", label="score")
    assert splits.train.inputs[0] == ("a0", "b0")
    splits = ask(path, kind="multi", text="a", label="tags", label_names=["x", "y", "z"])
    assert splits.train.labels.sum(axis=0)[2] == len(splits.train)
    splits = ask(path, text="a", label="who", kind="number", group="who")
    held = [set(p.labels.tolist()) for p in splits.parts.values()]
    assert not held[0] & held[1]
    assert not held[0] & held[2]


def test_agrees_with_tensorflow_on_where_records_stand(tmp_path):
    import tensorflow as tf

    path = write(tmp_path / "x.tfrecord", TEXTS)
    expected = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    assert [content for _, content in scan(path)] == expected


def test_bad_records(tmp_path):
    path = write(tmp_path / "x.tfrecord", IMAGES)

    def fails(path=path, **settings):
        with pytest.raises(UserError) as caught:
            ask(path, **{"image": "image", **settings})
        return " ".join(caught.value.problems)

    assert "Did you mean 'image'?" in fails(image="images")
    assert "x.tfrecord:0 has no feature 'lable'" in fails(label="lable")
    assert "as bytes" in fails(image="label", label="who")
    assert "Exactly one" in fails(text="text")
    assert "Exactly one" in fails(image=None)
    assert "needs data.text" in fails(text_pair="x")
    assert "Did you mean 'x.tfrecord'?" in fails(tmp_path / "x.tfrecords")
    assert "no file fits" in fails(tmp_path / "y*")
    assert "must not share a file" in fails(test=str(path))
    assert "data.label_names" in fails(label_names="none.txt")
    assert "0 to 0" in fails(label_names=["one"])
    content = path.read_bytes()
    (tmp_path / "cut").write_bytes(content[:-10])
    assert "cut short: record 39" in fails(tmp_path / "cut")
    (tmp_path / "odd").write_bytes(b"id,label\n1,2\n3,4\n")
    assert "is no TFRecord file" in fails(tmp_path / "odd")
    (tmp_path / "gz").write_bytes(gzip.compress(content))
    assert "is compressed" in fails(tmp_path / "gz")
    (tmp_path / "empty").write_bytes(b"")
    assert "no records" in fails(tmp_path / "empty")
    (tmp_path / "folder").mkdir()
    assert "suffixes" in fails(tmp_path / "folder")
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "raw")) as writer:
        writer.write(b"not an example")
    assert "is no tf.Example" in fails(tmp_path / "raw")
    latin = write(tmp_path / "latin", [{"text": "café".encode("latin-1"), "label": 1}])
    assert "latin:0: the text in 'text' is not UTF-8" in fails(latin, image=None, text="text")
    broken = write(tmp_path / "broken", [*IMAGES, {"image": b"", "label": 1}])
    assert "broken:40: it is empty" in fails(broken, broken="fail")
    assert any("1 image left out" in n for n in ask(broken, image="image").notices)


def test_empty_features_are_missing_labels(tmp_path):
    path = write(tmp_path / "x", [*TEXTS, {"text": b"t", "label": []}])
    with pytest.raises(UserError, match="x:40"):
        ask(path, text="text")
    assert np.isin(ask(write(tmp_path / "y", TEXTS), text="text").test.labels, [0, 1]).all()


def test_vectors_of_0_and_1_have_a_class_for_each_number(tmp_path):
    rows = [{"text": f"text {i}".encode(), "label": [i & 1, i >> 1 & 1, 1]} for i in range(40)]
    splits = ask(write(tmp_path / "a.tfrecord", rows), text="text", kind="multi")
    assert splits.labels.names == ("0", "1", "2")
    assert splits.train.labels[:, 2].all()
    assert not splits.train.labels[:, 0].all()
    rows[7]["label"] = [1, 1]
    with pytest.raises(UserError, match=r"a\.tfrecord:7 has 2"):
        ask(write(tmp_path / "a.tfrecord", rows), text="text", kind="multi")
    one_hot = [{**row, "label": [float(i % 2), 1.0 - i % 2]} for i, row in enumerate(rows)]
    splits = ask(write(tmp_path / "a.tfrecord", one_hot), text="text", label_names=["x", "y"])
    assert splits.labels.names == ("x", "y")
    assert splits.train.labels.tolist() == [
        1 - int(name.split(":")[1]) % 2 for name in splits.train.ids
    ]  # fmt: skip


def test_joined_labels_are_mentioned(tmp_path):
    rows = [{"text": f"text {i}".encode(), "label": [b"a|b", b"b"][i % 2]} for i in range(40)]
    splits = ask(write(tmp_path / "a.tfrecord", rows), text="text", kind="multi")
    assert "data.label_delimiter='|' (it is null)" in " ".join(splits.notices)
