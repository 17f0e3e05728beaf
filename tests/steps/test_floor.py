"""The floor of a run: what linear models without training come to, told beside its figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import kerasft
from kerasft.data.word_counts import WordCounts
from kerasft.system.files import read_json

ONE_EPOCH = ("epochs=1", "export=none", "callbacks=none")


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_texts):
    """A run that learns next to nothing, on texts that one word tells apart."""
    folder = tmp_path_factory.mktemp("floor") / "run"
    return kerasft.train([
        *tiny_texts, *ONE_EPOCH, "floor=always", "optimizer.learning_rate=1e-6",
        "finetune=linear_probe", "cache.activations=always", f"output_dir={folder}",
    ])  # fmt: skip


@pytest.mark.slow
def test_a_run_that_does_not_beat_counted_words_says_so(words, tiny_texts, tmp_path, capsys):
    found = words.floor
    assert found == read_json(words.output_dir / "floor.json")
    assert set(found) == {"features", "words"}
    assert found["words"]["test"]["accuracy"] > 0.9
    assert not found["words"]["beaten"]
    assert found["words"]["run"] == words.metrics["test"]["accuracy"]
    assert found["words"]["floor"] == found["words"]["test"]["accuracy"]
    assert set(found["features"]) > {"validation", "test", "strength", "examples"}
    kerasft.train([
        *tiny_texts, *ONE_EPOCH, "floor=auto", "optimizer.learning_rate=1e-6", "output_dir=auto",
    ])  # fmt: skip
    said = capsys.readouterr()
    assert "floor: logistic regression on counted words (TF-IDF): accuracy " in said.out
    assert "this run did not beat logistic regression on counted words (TF-IDF)" in said.err
    assert "`kerasft probe` compares backbones" in said.err
    # Three epochs' worth of passes for one epoch: too much for `auto`.
    assert "of what the run takes" in read_json("auto/floor.json")["features"]["left_out"]


@pytest.mark.slow
def test_features_are_those_that_the_head_is_trained_on(words, tiny_texts, tmp_path, capsys):
    """The activations that the floor kept are found by the stage of the head, and bit-identical."""
    kerasft.train([
        *tiny_texts, *ONE_EPOCH, "optimizer.learning_rate=1e-6", "finetune=linear_probe",
        "cache.activations=always", "cache.directory=none", "output_dir=none",
    ])  # fmt: skip
    none = capsys.readouterr().out
    assert "floor:" not in none
    assert ", computed in" in none
    kerasft.train([
        *tiny_texts, *ONE_EPOCH, "floor=always", "optimizer.learning_rate=1e-6",
        "finetune=linear_probe", "cache.activations=always", "cache.directory=with",
        "output_dir=with",
    ])  # fmt: skip
    assert "activation cache: " in (out := capsys.readouterr().out)
    assert ", found" in out
    one, other = (
        kerasft.run.reopening.reopen(name, ())[1].model.get_weights() for name in ("none", "with")
    )
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_a_run_on_images_is_held_against_its_features(tiny_images, tmp_path):
    result = kerasft.train([*tiny_images, *ONE_EPOCH, "floor=always", "output_dir=run"])
    assert set(result.floor) == {"features"}
    assert 0.1 < result.floor["features"]["test"]["accuracy"] <= 1
    assert result.floor["features"]["examples"] == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "label", "metric"),
    [("multi_label", "[long,good]", "f1_micro"), ("regression", "stars", "pearson")],
)
def test_several_labels_and_numbers_have_a_floor(task, label, metric, tiny_texts, tmp_path):
    lines = ["text,long,good,stars"]
    for i in range(60):
        good, long = i % 2, (i // 2) % 2
        text = f"a {'fine' if good else 'dull'} film {'indeed so' if long else ''} {i}"
        lines.append(f"{text},{long},{good},{2 * good + long + 1}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    given = [one for one in tiny_texts if not one.startswith("data.path")]
    found = kerasft.train([
        *given, *ONE_EPOCH, f"task={task}", f"data.label={label}", "data.path=table.csv",
        "optimizer.learning_rate=1e-6", "floor=auto", "output_dir=run",
    ]).floor["words"]  # fmt: skip
    assert found["metric"] == metric
    assert found["test"][metric] > 0.9
    assert not found["beaten"]


def test_words_are_counted_as_scikit_learn_does():
    texts = [f"{word} film number {i}" for i in range(20) for word in ("good", "bad")]
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    np.testing.assert_allclose(
        WordCounts(texts)(texts).toarray(), theirs.fit_transform(texts).toarray()
    )
    classes = np.array([0, 1] * 20)
    head = LogisticRegression().fit(WordCounts(texts)(texts), classes)
    assert head.score(WordCounts(texts)(texts), classes) == 1


@pytest.mark.parametrize(("text", "count"), [
    ("ভালো নাটক।", 3), ("好电影", 5), ("don't, you?", 5), ("...", 0), ("ไทย", 5),
])  # fmt: skip
def test_words_of_other_scripts_are_whole(text, count):
    """A word with vowel signs is one; signs that are written without spaces count each."""
    assert WordCounts([text])([text]).nnz == count


def test_of_pairs_what_both_texts_share_counts():
    pairs = [("a cat sat", "a cat sat"), ("a cat sat", "one dog ran")]
    found = WordCounts(pairs)(pairs).toarray()
    assert found[:, -1] == pytest.approx([1.0, 0.0])
