import json
import shutil
from functools import partial

import numpy as np
import pytest

from kerasft.data import gathered, kept_splits
from kerasft.data.fingerprint import fingerprints
from kerasft.data.images import held
from kerasft.data.late_texts import LateTexts
from kerasft.data.sources.tfds import tfds
from kerasft.data.sources.tfds_safety import require_own
from kerasft.errors import UserError
from kerasft.system.cache import Cache

tensorflow_datasets = pytest.importorskip("tensorflow_datasets")

# TFDS parses its own files with what Python is about to drop; none of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small data set, prepared as TFDS prepares its own."""
    module = tensorflow_datasets

    class Insects(module.core.GeneratorBasedBuilder):
        VERSION = module.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": module.features.Image(shape=(None, None, 3)),
                "label": module.features.ClassLabel(names=["bee", "ant"]),
                "note": module.features.Text(),
                "more": module.features.Text(),
                "tags": module.features.Sequence(module.features.ClassLabel(names=["x", "y"])),
                "size": np.float32,
            }
            return module.core.DatasetInfo(
                builder=self, features=module.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(30), "test": self._generate_examples(6)}

        def _generate_examples(self, count):
            rng = np.random.default_rng(count)
            for i in range(count):
                yield (
                    i,
                    {
                        "image": rng.integers(0, 255, (5, 6, 3), dtype=np.uint8),
                        "label": i % 2,
                        "note": f"আমি {count} {i}",
                        "more": "m",
                        "tags": [0, 1][: i % 3],
                        "size": i / 2,
                    },
                )

    folder = tmp_path_factory.mktemp("tfds")
    Insects(data_dir=str(folder)).download_and_prepare()
    return folder


def ask(name, **settings):
    return tfds(str(name), **{"kind": "single", "seed": 0, **settings})


def test_images_stay_encoded(prepared):
    splits = ask(prepared)
    assert {n: len(p) for n, p in splits.parts.items()} == {
        "train": 26, "validation": 4, "test": 6,
    }  # fmt: skip
    assert splits.labels.names == ("bee", "ant")
    assert splits.train.inputs[0].startswith(b"\x89PNG")
    assert splits.train.ids == ask(prepared / "insects" / "1.0.0").train.ids
    assert splits.source["name"] == "insects/1.0.0"


def test_many_images_are_held_in_a_file_and_stay_the_same(prepared, monkeypatch, tmp_path):
    few = ask(prepared)
    monkeypatch.setattr(held, "FEW", 0)
    with held.held_in(tmp_path):
        many = ask(prepared)
    for name, part in few.parts.items():
        assert list(part.inputs) == list(many.parts[name].inputs)
        assert list(part.ids) == list(many.parts[name].ids)
        assert (fingerprints(part) == fingerprints(many.parts[name])).all()


def test_texts_slices_and_kinds(prepared):
    splits = ask(prepared, input="note", train="train[:20]", validation="train[20:]", test=0)
    assert {n: len(p) for n, p in splits.parts.items()} == {
        "train": 20, "validation": 10, "test": 6,
    }  # fmt: skip
    assert splits.train.inputs[0].startswith("আমি 30")
    splits = ask(prepared, input="note", text_pair="more", kind="number", label="size")
    assert splits.train.inputs[0][1] == "m"
    splits = ask(prepared, input="note", kind="multi", label="tags")
    assert splits.labels.names == ("x", "y")


@pytest.mark.parametrize("settings", [
    {}, {"text_pair": "more"}, {"kind": "number", "label": "size"},
    {"kind": "multi", "label": "tags", "train": "train[:20]", "validation": "train[20:]"},
])  # fmt: skip
def test_texts_that_are_read_in_pieces_are_the_same(prepared, settings, monkeypatch, tmp_path):
    settings = {"kind": "single", "name": str(prepared), "input": "note", **settings}
    whole = ask(prepared, **{k: v for k, v in settings.items() if k != "name"})
    monkeypatch.setattr(kept_splits, "SMALL", 0)
    monkeypatch.setattr(gathered, "AT_ONCE", 7)
    read = partial(kept_splits.read, tfds, "tfds", settings, Cache(tmp_path))
    for again in (read(lambda: tfds(seed=0, **settings)), read(lambda: pytest.fail("read again"))):
        assert again.labels == whole.labels and again.source == whole.source
        for name, part in whole.parts.items():
            other = again.parts[name]
            assert isinstance(other.inputs, LateTexts)
            assert list(other.inputs) == list(part.inputs) and list(other.ids) == list(part.ids)
            assert (fingerprints(other) == fingerprints(part)).all()
            for one in range(len(part)):
                np.testing.assert_equal(part.annotations.row(one), other.annotations.row(one))


def test_a_set_that_is_prepared_anew_is_read_anew(prepared, monkeypatch, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    settings = {"kind": "single", "name": str(copy), "input": "note"}
    monkeypatch.setattr(kept_splits, "SMALL", 0)
    read = partial(kept_splits.read, tfds, "tfds", settings, Cache(tmp_path / "cache"))
    counted = []
    for touched in (False, False, True):
        if touched:
            next(copy.rglob("*tfrecord*")).touch()
        read(lambda: counted.append(1) or tfds(seed=0, **settings))
    assert len(counted) == 2


def test_by_name(prepared):
    splits = tfds("insects", kind="single", seed=0, data_dir=str(prepared))
    assert len(splits.test) == 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label": "lable"}, "Did you mean 'label'?"),
        ({"input": "img"}, "data.input"),
        ({"input": "size"}, "an image or a text"),
        ({"input": "note", "text_pair": "mor"}, "Did you mean 'more'?"),
        ({"validation": "valid"}, "has no split 'valid'"),
        ({"train": "train[:oops]"}, "data.train"),
        ({"validation": 0}, "data.validation must be above 0"),
    ],
)
def test_mistakes(prepared, settings, said):
    with pytest.raises(UserError) as caught:
        ask(prepared, **settings)
    assert said in " ".join(caught.value.problems)


def test_names_and_folders_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'mnist'"):
        ask("mnistt")
    with pytest.raises(UserError, match=r"dataset_info\.json"):
        ask(tmp_path)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    """A data set whose test split hides its labels, and with labels as vectors."""
    module = tensorflow_datasets

    class Reviews(module.core.GeneratorBasedBuilder):
        VERSION = module.core.Version("1.0.0")

        def _info(self):
            features = {
                "text": module.features.Text(),
                "label": module.features.ClassLabel(names=["negative", "positive"]),
                "score": np.float32,
                "ints": module.features.Tensor(shape=(3,), dtype=np.int64),
                "bools": module.features.Tensor(shape=(3,), dtype=np.bool_),
                "joined": module.features.Text(),
            }
            return module.core.DatasetInfo(
                builder=self, features=module.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(40, 0), "test": self._generate_examples(10, 1),
            }  # fmt: skip

        def _generate_examples(self, count, hide):
            for i in range(count):
                vector = np.array([i & 1, i >> 1 & 1, 1])
                yield i, {
                    "text": f"text {count} {i}", "label": -1 if hide else i % 2, "ints": vector,
                    "bools": vector > 0, "joined": "a|b" if i % 2 else "b",
                    "score": -1.0 if hide else i / 4,
                }  # fmt: skip

    folder = tmp_path_factory.mktemp("hidden")
    Reviews(data_dir=str(folder)).download_and_prepare()
    return folder / "reviews"


def test_a_test_split_that_hides_its_labels_is_left_out(hidden):
    splits = ask(hidden, input="text")
    assert "none of the 10 examples of test has a label" in splits.notices[0]
    assert {n: len(p) for n, p in splits.parts.items()} == {
        "train": 28, "validation": 6, "test": 6,
    }  # fmt: skip
    assert ask(hidden, input="text", test=0).test is None
    scores = ask(hidden, input="text", kind="number", label="score")
    assert len(scores.test) == 6 and min(scores.test.labels) >= 0
    with pytest.raises(UserError, match=r"data\.test: none .* data\.test to a part"):
        ask(hidden, input="text", test="test")
    with pytest.raises(UserError, match=r"data\.train: none"):
        ask(hidden, input="text", train="test")


@pytest.mark.parametrize("label", ["ints", "bools"])
def test_vectors_of_0_and_1_have_a_class_for_each_number(hidden, label):
    splits = ask(hidden, input="text", kind="multi", label=label, label_names=["a", "b", "c"])
    assert splits.labels.names == ("a", "b", "c")
    for text, row in zip(splits.train.inputs, splits.train.labels, strict=True):
        i = int(text.split()[-1])
        assert row.tolist() == [i & 1, i >> 1 & 1, 1]


def test_joined_labels_are_mentioned_and_split(hidden):
    splits = ask(hidden, input="text", kind="multi", label="joined")
    assert "data.label_delimiter='|'" in " ".join(splits.notices)
    splits = ask(hidden, input="text", kind="multi", label="joined", label_delimiter="|")
    assert splits.labels.names == ("a", "b")


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    mark = tmp_path / "mark"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    (tmp_path / "evil_features.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "evil_features.Own"
    assert not mark.exists(), "code that a data set named has run"


FEATURES = {
    "as it is written": lambda name: {"pythonClassName": name, "tensor": {"shape": {}}},
    "by the proto's name": lambda name: {"python_class_name": name, "tensor": {"shape": {}}},
    "as it was written": lambda name: {"type": name, "content": {}},
}  # fmt: skip


@pytest.mark.parametrize("how", FEATURES)
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_prepared_folder_imports_nothing(how, by_name, nested, evil, prepared, tmp_path):
    folder = tmp_path / "insects" / "1.0.0"
    shutil.copytree(prepared / "insects" / "1.0.0", folder)
    if how == "as it was written":
        features = FEATURES[how](evil)
        if nested:
            features = {
                "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
                "content": {"label": features},
            }
    else:
        features = json.loads((folder / "features.json").read_text())
        if nested:
            features["featuresDict"]["features"]["label"] = FEATURES[how](evil)
        else:
            features = FEATURES[how](evil)
    (folder / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match=r"a feature of the class 'evil_features\.Own'"):
        if by_name:
            ask("insects", data_dir=str(tmp_path))
        else:
            ask(folder)


@pytest.mark.parametrize("name", [
    "huggingface:glue/sst2", "kaggle:beans", "mlcommons:x/y:1.0.0", "somebody:own", "a_b:c", "x:",
])  # fmt: skip
def test_data_sets_of_others_are_refused_by_name(name):
    with pytest.raises(UserError, match="must be a data set of TFDS itself"):
        ask(name)


@pytest.mark.parametrize("name", ["beans:0.1.0", "glue/sst2:2.0.0", "mnist:3.*.*", "mnist"])
def test_a_version_is_no_prefix(name):
    require_own(name)
    parsed, _ = tensorflow_datasets.core.naming.parse_builder_name_kwargs(name)
    assert not parsed.namespace


@pytest.mark.parametrize(
    "name",
    ["kaggle:experimental_latest_x", "huggingface:experimental_latestfoo/cfg", "huggingface:*",
     "kaggle:experimental_latest", "kaggle:0x", "a:b:1.0.0", "kaggle:1.0", "kaggle:1.0.0x"],
)  # fmt: skip
def test_what_only_looks_like_a_version_is_a_prefix(name):
    with pytest.raises(UserError, match="a prefix fetches data"):
        require_own(name)
    require_own("beans:1.0.0")
    require_own("beans:1.*.*")


@pytest.mark.parametrize(
    "template",
    ["../other/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "{DATASET}/{SPLIT}",
     "/etc/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
     "gs://stranger/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"],
)  # fmt: skip
def test_a_prepared_folder_names_no_files_elsewhere(prepared, tmp_path, template):
    shutil.copytree(prepared, tmp_path / "copy")
    file = next((tmp_path / "copy").rglob("dataset_info.json"))
    about = json.loads(file.read_text())
    for split in about["splits"]:
        split["filepathTemplate"] = template
    file.write_text(json.dumps(about))
    with pytest.raises(UserError, match="out of its own folder"):
        ask(file.parent)


def test_a_split_whose_name_leads_out_is_refused(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    file = next((tmp_path / "copy").rglob("dataset_info.json"))
    file.write_text(file.read_text().replace('"name": "train"', '"name": "../../train"'))
    with pytest.raises(UserError, match=r"data\.(name|train)"):
        ask(file.parent)
