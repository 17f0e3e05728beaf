"""What a tagger learns of a batch, and how its answers are measured."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from kerasft import compose
from kerasft.contracts import lacking
from kerasft.data.annotations.spans import Marked, encode
from kerasft.errors import UserError
from kerasft.evaluation.uncertainty import draws, resampled
from kerasft.model import tiny
from kerasft.rows import Column, Rows
from kerasft.run import check
from kerasft.spec import Labels
from kerasft.tasks import shared
from kerasft.tasks.class_weights import described
from kerasft.tasks.detection import Detection
from kerasft.tasks.losses import tagging_loss
from kerasft.tasks.tagging import Tagging
from kerasft.tasks.windowed import in_words, require_overlap

LABELS = Labels("spans", ("person", "place"))
# O, B-person, I-person, B-place, I-place
TEXTS = [
    Marked("Anna Berg is in Rome", ((0, 9, "person"), (16, 20, "place"))),
    Marked("it rains", ()),
]
WORDS = [[(0, 4), (5, 9), (10, 12), (13, 15), (16, 20)], [(0, 2), (3, 8)]]


def annotated(texts=TEXTS, words=WORDS):
    """Return texts as a preprocessing places them, each word being one token behind the first."""
    ids = [str(number) for number in range(len(texts))]
    _, rows, _, _ = encode(texts, ids, names=LABELS.names, key="data.path")
    columns = {
        "place": [range(1, 1 + len(row)) for row in words],
        "start": [[a for a, _ in row] for row in words],
        "end": [[b for _, b in row] for row in words],
    }
    made = {name: Column.ragged(list(map(list, value)), group="words", fill=-1, dtype="int32")
            for name, value in columns.items()}  # fmt: skip
    return Rows.of({**rows.columns, **made})


def kept(chosen, task, rows, sure=0.9):
    """Return what a network keeps that is sure of some tags."""
    targets = task.targets(rows, LABELS)
    outputs = np.full((2, 8, 5), np.log((1 - sure) / 4), "float32")
    for row, tags in enumerate(chosen):
        for place, tag in enumerate(tags):
            outputs[row, place + 1, tag] = np.log(sure)
    batch = {name: tf.constant(value) if value.dtype != object else tf.constant(value.tolist())
             for name, value in targets.gather(np.arange(2)).items()}  # fmt: skip
    return Rows.of_tensors(task.keep(tf.constant(outputs), None, batch))


def test_words_are_learned_with_their_tags():
    task, rows = Tagging(), annotated()
    assert not lacking(task)
    targets = task.targets(rows, LABELS, training=True)
    assert [targets.row(i)["tags"].tolist() for i in range(2)] == [[1, 2, 0, 0, 3], [0, 0]]
    batch = targets.gather(np.arange(2))
    y, weights = task.batch(None, {n: tf.constant(v) for n, v in batch.items()}, LABELS)
    assert weights is None
    assert y.numpy()[1].tolist() == [[1, 0, 1], [2, 0, 1], *[[-1, -1, 0]] * (y.shape[1] - 2)]
    assert task.describe(batch, LABELS) == ["person 1, place 1", "no entity"]
    # Rows that were chosen of others keep their order.
    turned = task.targets(rows.take([1, 0]), LABELS, training=True)
    assert turned.row(1)["tags"].tolist() == [1, 2, 0, 0, 3]


def test_the_loss_looks_at_the_first_tokens_of_words_alone():
    random = np.random.default_rng(0)
    outputs = random.normal(size=(1, 6, 3)).astype("float32")
    y = tf.constant([[[1, 2, 1], [4, 0, 1], [-1, -1, 0]]], tf.float32)
    logs = tf.nn.log_softmax(outputs).numpy()[0]
    assert float(tagging_loss(y, outputs)[0]) == pytest.approx(-(logs[1, 2] + logs[4, 0]) / 2)
    weighed = -(logs[1, 2] + 0.5 * logs[4, 0]) / 1.5
    half = tf.constant([[[1, 2, 1], [4, 0, 0.5], [-1, -1, 0]]])
    assert float(tagging_loss(half, outputs)[0]) == pytest.approx(weighed)
    other = outputs.copy()
    other[0, [0, 2, 3, 5]] = 9.0
    assert float(tagging_loss(y, other)[0]) == float(tagging_loss(y, outputs)[0])
    none = tf.constant([[[-1, -1, 0]] * 3], tf.float32)
    assert float(tagging_loss(none, outputs)[0]) == 0.0


def many(seed=0):
    """Return texts of several lengths, and their words."""
    random = np.random.default_rng(seed)
    texts, words = [], []
    for _ in range(12):
        count = int(random.integers(1, 9))
        names = random.choice(["person", "place", "none"], count, p=[0.1, 0.3, 0.6])
        spans = [(2 * i, 2 * i + 1, str(name)) for i, name in enumerate(names) if name != "none"]
        texts.append(Marked(" ".join("a" * count), tuple(spans)))
        words.append([(2 * i, 2 * i + 1) for i in range(count)])
    return annotated(texts, words)


@pytest.mark.parametrize("settings", [
    {}, {"outside_weight": 0.5}, {"class_weight": {"person": 3}, "outside_weight": 0.5},
    {"class_weight": "balanced"}, {"class_weight": "auto"},
])  # fmt: skip
def test_each_word_moves_weights_by_its_weight_whichever_batch_it_is_in(settings):
    rows = many()
    task = Tagging(**settings).adapt(rows)
    every = task.targets(rows, LABELS, training=True)
    parts = [[0], [1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]]
    outputs = np.random.default_rng(1).normal(size=(12, 10, 5)).astype("float32")
    trained = task.batched(len(rows) / len(parts))
    found, shown, right = {}, [], []
    for part in parts:
        batch = {n: tf.constant(v) for n, v in every.gather(np.array(part)).items()}
        y, _ = trained.batch(None, batch, LABELS)
        logits = tf.Variable(outputs[part])
        with tf.GradientTape() as tape:
            losses = tagging_loss(y, logits)
            loss = tf.reduce_mean(losses)
        moved = tape.gradient(loss, logits).numpy()
        shown += losses.numpy().tolist()
        for one, example in enumerate(part):
            for place, tag in zip(every.row(example)["place"], every.row(example)["tags"],
                                  strict=True):
                chance = tf.nn.softmax(outputs[example, place]).numpy() - np.eye(5)[tag]
                kind = (tag + 1) // 2
                found.setdefault(kind, []).append(float(
                    np.abs(moved[one, place]).sum() / np.abs(chance).sum()))
                nats = -np.log(tf.nn.softmax(outputs[example, place]).numpy()[tag])
                right.append((nats, task.weights(LABELS)[kind]))
    weights = task.weights(LABELS)
    for kind, each in found.items():  # alike in all batches, and in proportion to the weights
        assert each == pytest.approx([each[0]] * len(each), rel=1e-4)
        assert each[0] / found[0][0] == pytest.approx(weights[kind] / weights[0], rel=1e-4)
    nats, weight = np.array(right).T
    assert np.mean(shown) == pytest.approx((nats * weight).sum() / weight.sum(), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"outside_weight": 0.5}])
def test_a_batch_that_is_an_update_of_its_own_takes_the_mean_of_its_words(settings):
    rows = many()
    task = Tagging(**settings).adapt(rows)
    trained = task.batched(len(rows) / 4, alone=True)
    every = task.targets(rows, LABELS, training=True)
    outputs = np.random.default_rng(1).normal(size=(12, 10, 5)).astype("float32")
    for part in ([0], [1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]):
        batch = {n: tf.constant(v) for n, v in every.gather(np.array(part)).items()}
        y, _ = trained.batch(None, batch, LABELS)
        nats, weights = [], []
        for example in part:
            for place, tag in zip(every.row(example)["place"], every.row(example)["tags"],
                                  strict=True):
                nats.append(-np.log(tf.nn.softmax(outputs[example, place]).numpy()[tag]))
                weights.append(task.weights(LABELS)[(tag + 1) // 2])
        loss = float(tf.reduce_mean(tagging_loss(y, outputs[part])))
        assert loss == pytest.approx(np.average(nats, weights=weights), rel=1e-5)


def test_types_are_weighed_by_how_many_words_they_have():
    rows = many()
    counts = np.array(Tagging(class_weight="auto").adapt(rows).counts)
    tags = np.concatenate([Tagging().targets(rows, LABELS).row(i)["tags"] for i in range(12)])
    assert counts.tolist() == [(tags == 0).sum(), ((tags == 1) | (tags == 2)).sum(),
                               (tags > 2).sum()]  # fmt: skip
    task = Tagging(class_weight="balanced", outside_weight=0.5).adapt(rows)
    balanced = counts.sum() / (3 * counts)
    assert task.weights(LABELS) == pytest.approx(balanced * [0.5, 1, 1])
    named = Tagging(class_weight={"place": 2}).weights(LABELS)
    assert named.tolist() == [1, 1, 2]
    # Figures of validation are of all words alike.
    every = task.targets(rows, LABELS, training=True).gather(np.arange(12))
    y, _ = task.batch(None, {n: tf.constant(v) for n, v in every.items()}, LABELS)
    assert set(np.unique(y[..., 2])) == {0.0, 0.5, 1.0}
    said = described(Tagging(class_weight="auto").adapt(rows), LABELS)
    assert said.startswith("task.class_weight=auto: ") and "person " in said and "O " in said


@pytest.mark.parametrize(("weights", "told"), [
    ({"persn": 3}, r"names a class that the data does not have.*Did you mean 'person'"),
    ({"person": -1}, "a number from 0 on for each class"),
    ("balancd", "must be null, 'balanced', 'auto' or a mapping.*Did you mean 'balanced'"),
    ({"O": 0.3}, r"words outside of all weigh task\.outside_weight.*Set task\.outside_weight=0\.3"),
])  # fmt: skip
def test_weights_that_are_none_are_told(weights, told):
    with pytest.raises(UserError, match=told):
        Tagging(class_weight=weights).weights(LABELS)


def test_right_answers_are_counted_as_such():
    task, rows = Tagging(), annotated()
    statistics = task.statistics(rows, kept([[1, 2, 0, 0, 3], [0, 0]], task, rows), LABELS)
    assert statistics["counts"].tolist() == [[[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]]]
    figures = task.figures(statistics, LABELS)
    assert (figures["f1"], figures["partial_f1"], figures["unseen"]) == (1.0, 1.0, 0)
    # Half of a name, and an entity where there is none.
    statistics = task.statistics(rows, kept([[1, 0, 0, 0, 3], [0, 3]], task, rows), LABELS)
    figures = task.figures(statistics, LABELS)
    assert figures["f1"] == pytest.approx(2 / 5)
    assert figures["partial_f1"] == pytest.approx(4 / 5)


def test_what_the_network_does_not_see_is_missed():
    task = Tagging()
    rows = annotated(words=[WORDS[0][:3], WORDS[1]])
    statistics = task.statistics(rows, kept([[1, 2, 0], [0, 0]], task, rows), LABELS)
    figures = task.figures(statistics, LABELS)
    assert figures["unseen"] == 1 and figures["entities"] == 2 and figures["recall"] == 0.5


def test_what_cannot_go_on_begins_or_is_not_chosen():
    rows = annotated()
    found = {}
    for decoding in ("independent", "constrained"):
        task = Tagging(decoding=decoding)
        answers = task.answer(kept([[0, 2, 0, 0, 3], [0, 0]], task, rows, 0.4), LABELS)
        found[decoding] = [bytes(one).decode() for one in answers["text"][0]]
        assert answers["count"].tolist() == [len(found[decoding]), 0]
    assert found["independent"] == ["Berg", "Rome"]
    # That I-person is likely makes a B-person before it, or O, likelier than a lone I-person.
    assert found["constrained"] != found["independent"] or found["constrained"] == ["Rome"]


def test_answers_are_those_of_the_text():
    import kerasft.model.text.tags as tags

    task, rows = Tagging(), annotated()
    answers = task.answer(kept([[1, 2, 0, 0, 3], [0, 3]], task, rows), LABELS)
    assert [list(map(bytes.decode, one)) for one in answers["type"]] == [["person", "place"],
                                                                         ["place"]]  # fmt: skip
    assert answers["start"][0].tolist() == [0, 16] and answers["end"][0].tolist() == [9, 20]
    assert answers["score"][0] == pytest.approx([0.9, 0.9], rel=1e-5)
    assert tags.count(2) == 5


def test_no_entity_is_weighed_for_the_best_f1():
    task, rows = Tagging(), annotated()
    unsure = kept([[0, 0, 0, 0, 0], [0, 0]], task, rows)
    values = unsure.columns["probabilities"].values.copy()
    values[:] = [0.7, 0.05, 0.05, 0.1, 0.1]
    values[0], values[1], values[4] = [[0.5, 0.4, 0.0, 0.1, 0.0], [0.5, 0.0, 0.4, 0.0, 0.1],
                                       [0.5, 0.0, 0.0, 0.5, 0.0]]  # fmt: skip
    columns = {**unsure.columns, "probabilities": Column(
        values, unsure.columns["probabilities"].ends, group="probabilities")}  # fmt: skip
    unsure = Rows.of(columns)
    before = task.figures(task.statistics(rows, unsure, LABELS), LABELS)["f1"]
    tuned = task.tune(rows, unsure, LABELS)
    after = tuned.figures(tuned.statistics(rows, unsure, LABELS), LABELS)["f1"]
    assert before == 0.0 and after == 1.0 and -1 <= tuned.outside < 0
    assert shared.load(json.loads(json.dumps(tuned.to_dict()))) == tuned


@pytest.mark.parametrize("decoding", ["constrained", "independent"])
def test_the_weight_is_the_one_whose_figures_are_best(decoding):
    random = np.random.default_rng(1)
    texts, words, chances = [], [], []
    for count in (0, 3, 7, 12, 5, 9):
        texts.append(Marked("ab " * count, tuple(
            (3 * i, 3 * i + 2, str(random.choice(LABELS.names))) for i in range(0, count, 4))))
        words.append([(3 * i, 3 * i + 2) for i in range(count)])
        scores = random.normal(size=(count, 5))
        scores[:, 0] += 1.5
        scores[::4, [1, 3]] += 1.5
        chances.append(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))
    rows = annotated(texts, words)
    spans = {name: [[one[place] for one in row] for row in words]
             for place, name in enumerate(("start", "end"))}  # fmt: skip
    seen = Rows.of({
        "probabilities": Column(np.concatenate(chances).astype("float32"),
                                np.cumsum([len(one) for one in chances]), group="words"),
        **{name: Column.ragged(list(map(np.array, value)), group="words", fill=-1, dtype="int32")
           for name, value in spans.items()},
    })  # fmt: skip
    tuned = Tagging(decoding=decoding).tune(rows, seen, LABELS)
    f1 = {}
    for outside in sorted(np.arange(-3.0, 1.01, 0.25).tolist(), key=abs):
        one = Tagging(decoding=decoding, outside=outside)
        f1[outside] = one.figures(one.statistics(rows, seen, LABELS), LABELS)["f1"]
    assert tuned.outside == max(f1, key=f1.get) and len(set(f1.values())) > 4


def test_drawings_of_sums_are_those_of_figures():
    random = np.random.default_rng(0)
    counts = random.integers(2, 9, (9, 2, 3))
    counts[..., 0] = 1
    statistics = {"counts": counts, "overlaps": np.ones((9, 2), int), "unseen": np.zeros(9, int)}
    task = Tagging()
    for name in task.headlines:
        quick = resampled(task, LABELS, name, statistics, draws(9, 5))
        slow = [task.figures({k: v[rows] for k, v in statistics.items()}, LABELS)[name]
                for rows in draws(9, 5)]
        np.testing.assert_allclose(quick, slow)


@pytest.mark.parametrize(("texts", "told"), [
    (["@anna is in Rome", "no"], "1 of 2 texts has @names"), (["in Rome", "me@a.org"], ""),
    (["see @Rome"] * 2, ""), (["at Rome #home"] * 2, "2 of 2 texts have"),
    (["@anna in Rome", *["in Rome"] * 40], ""),
])  # fmt: skip
def test_posts_are_told(texts, told):
    marked = []
    for text in texts:
        at = text.find("Rome")
        marked.append(Marked(text, ((at, at + 4, "place"),) if at >= 0 else ()))
    rows = encode(marked, list(map(str, range(len(texts)))), names=["place"], key="data.path")[1]
    said = Tagging().advice(rows)
    assert said.startswith(told) and bool(said) == bool(told)
    assert Tagging(words="posts").advice(rows) == ""


def test_another_kind_of_words_is_another_preprocessing_on_the_same_tokenizer():
    backbone = tiny.text("bert")
    assert in_words(backbone, "letters") is backbone
    made = in_words(backbone, "posts").preprocess
    assert made.words == "posts" and made.tokenizer is backbone.preprocess.tokenizer


def test_mistakes():
    with pytest.raises(UserError) as told:
        Tagging(decoding="viterbi", outside_weight=0.0, windows=0,  # type: ignore[arg-type]
                overlap=-1, words="tweets")  # fmt: skip
    assert len(told.value.problems) == 5
    assert "task.words must be one of letters, posts." in told.value.problems[2]
    assert "task.decoding must be one of constrained, independent" in told.value.problems[0]
    with pytest.raises(UserError, match=r"set task\.windows, too\. Received: task\.overlap=8"):
        Tagging(overlap=8)


@pytest.mark.parametrize("overlap", [16, 40])
def test_windows_that_share_all_they_hold_are_told_by_the_check(overlap):
    cfg = compose(["task=tagging", "data=conll", "data.path=words.txt", "backbone=tiny_bert",
                   "head=tokens", "backbone.sequence_length=16", "task.windows=4",
                   f"task.overlap={overlap}"])  # fmt: skip
    with pytest.raises(UserError) as told:
        check(cfg)
    (problem,) = told.value.problems
    assert re.search(r"task\.overlap, the tokens that .* must be below 16, .*"
                     rf"\(backbone\.sequence_length=16\)\. Received: {overlap}\.", problem)
    cfg.task.overlap = 15  # what a window has room for beside its ends, the network tells
    check(cfg)


def test_an_overlap_of_boxes_is_no_matter_of_windows():
    require_overlap(Detection(overlap=1.0), 1)
    with pytest.raises(UserError, match=r"must be below 1,.* Received: 1"):
        require_overlap(Tagging(windows=2, overlap=1), 1)
