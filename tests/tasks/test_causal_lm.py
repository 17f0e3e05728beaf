"""What a language model learns of its data, and the figures it comes to."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasft.config.composition import compose
from kerasft.data.order import Order
from kerasft.data.preprocessing import prepare
from kerasft.data.sources.chat import chat
from kerasft.data.sources.text_files import text_files
from kerasft.errors import UserError
from kerasft.evaluation.uncertainty import draws, resampled
from kerasft.model.tiny import text
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.steps.preparing.batches import make_batches
from kerasft.tasks import reading
from kerasft.tasks.causal_lm import CausalLM, token_loss

LABELS = Labels("language")
TEMPLATE = {"begin": "{start}", "user": "Q: {content}\n", "assistant": "A: {content}{end}"}


@pytest.fixture(scope="module")
def novel(tmp_path_factory):
    file = tmp_path_factory.mktemp("novel") / "novel.txt"
    lines = [f"the {word} fox number {i}\njumps over it" for i, word in
             enumerate(["quick", "lazy", "brown"] * 20)]  # fmt: skip
    file.write_text("\n\n".join([*lines, "a long one " * 60]), "utf-8")
    return file


def read(task, splits, length=32):
    backbone = reading.prepared(
        text("gpt2", sequence_length=length), task.template, task.loss_on, apart=False
    )
    made = {}

    def ready(parts, preprocess):
        made.update({name: prepare(part, preprocess) for name, part in parts.items()})
        return {name: made[name] for name in parts}

    return *task.read(splits, backbone.preprocess, ready, seed=0), backbone.preprocess


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["isolated", "joined", "none"])
def test_every_token_of_the_texts_is_learned_once(novel, packing, capsys):
    splits = text_files(str(novel), kind="language", seed=0, documents="blank_line")
    task = CausalLM(packing=packing)
    made, stores, preprocess = read(task, splits)
    longest = {name: int(store.lengths.max()) for name, store in stores.items()}
    assert max(longest.values()) <= 32
    learned = {
        name: np.concatenate([
            store.inputs.row(i)["token_ids"][part.annotations.row(i)["learned"] > 0]
            for i in range(len(part))
        ])
        for (name, part), store in zip(made.parts.items(), stores.values(), strict=True)
    }  # fmt: skip
    # The start of each is not learned, and its end is.
    wanted = int(preprocess.prompts(splits.train.inputs).row_lengths().numpy().sum())
    assert len(learned["train"]) == wanted
    task = task.adapt(made.train.annotations)
    assert task.learned == pytest.approx(wanted / len(made.train))
    sizes = sum(len(one.encode()) for one in splits.train.inputs)
    assert made.train.annotations["bytes"].sum() == pytest.approx(sizes, abs=len(made.train))
    again = read(task, splits)[0]
    assert again.train.inputs == made.train.inputs


@pytest.mark.slow
def test_what_has_no_answer_left_is_named_and_left_out(tmp_path, capsys):
    rows = [{"q": f"the fox {i}", "a": "it is"} for i in range(12)]
    rows[3]["q"] = "the fox " * 40
    rows[5]["a"] = " "
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    splits = chat(str(file), kind="language", seed=0, prompt="q", answer="a", test=0)
    assert "1 row left out, as nothing is to be learned of them" in " ".join(splits.notices)
    assert "chat.jsonl:6" in " ".join(splits.notices)
    made, stores, _ = read(CausalLM(template=TEMPLATE, packing="none"), splits)
    assert sum(map(len, made.parts.values())) == 10
    told = capsys.readouterr()
    assert "1 example of" in told.out + told.err and "chat.jsonl:4" in told.out + told.err
    for name, part in made.parts.items():
        assert len(stores[name]) == len(part)
        assert all((part.annotations.row(i)["learned"] > 0).any() for i in range(len(part)))
    with pytest.raises(UserError, match="No tokens are left to train on"):
        read(CausalLM(template=TEMPLATE), splits, length=8)


def test_conversations_without_a_template_are_refused(tmp_path):
    rows = [{"q": f"the fox {i}", "a": "it is"} for i in range(12)]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, prompt="q", answer="a")
    with pytest.raises(UserError, match=r"become tokens by a template.*Set template=plain, .*"):
        read(CausalLM(), splits)


def test_documents_with_a_template_are_refused(novel):
    splits = text_files(str(novel), kind="language", seed=0, documents="blank_line")
    with pytest.raises(UserError, match=r"holds documents, which take no template"):
        read(CausalLM(template=TEMPLATE), splits)


def test_tokens_weigh_the_same_whatever_batch_they_are_in():
    draw = np.random.default_rng(0)
    nats, learned = draw.random((6, 5)), draw.integers(0, 2, (6, 5))
    learned[0] = [1] * 5
    outputs = np.stack([nats, nats, nats], axis=-1).astype("float32")
    task = CausalLM(learned=float(learned.sum() / 6))
    y, weights = task.batch({}, {"learned": tf.constant(learned)}, LABELS)
    assert weights is None
    losses = token_loss(y, tf.constant(outputs)).numpy()
    # As Keras takes the mean, of a batch or of batches that are added up.
    parts = [losses[:2].mean(), losses[2:4].mean(), losses[4:].mean()]
    assert np.mean(parts) == pytest.approx((nats * learned).sum() / learned.sum(), 1e-5)


def test_each_token_moves_weights_alike_in_batches_of_other_sizes():
    draw = np.random.default_rng(0)
    lengths = np.array([8] * 13 + [16] * 6 + [32] * 3)
    order = Order(len(lengths), 4, seed=0, lengths=lengths, positions=64)
    learned = np.arange(32) < lengths[:, None] * draw.random((len(lengths), 1))
    nats = draw.random(learned.shape).astype("float32")
    task = CausalLM(learned=float(learned.sum() / len(learned)))
    found, losses = {}, {}
    for name, made in (("plain", task), ("batched", task.batched(len(lengths) / order.steps))):
        found[name], losses[name] = set(), []
        for rows in order.epoch(0):
            outputs = tf.Variable(np.stack([nats[rows]] * 3, axis=-1))
            y, _ = made.batch({}, {"learned": tf.constant(learned[rows].astype(int))}, LABELS)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(token_loss(y, outputs))
            moved = tape.gradient(loss, outputs)[..., 0].numpy()[learned[rows]]
            found[name] |= set(np.round(moved * learned.sum() / order.steps, 3).tolist())
            losses[name].append(float(loss))
    assert max(found["plain"]) > 1.5 * min(found["plain"])
    assert found["batched"] == {1.0}
    # What is shown of an epoch is still the mean over tokens.
    assert losses["batched"] == pytest.approx(losses["plain"])
    sizes = [len(rows) for rows in order.epoch(0)]
    mean = (nats * learned).sum() / learned.sum()
    assert np.average(losses["batched"], weights=sizes) == pytest.approx(mean, 1e-5)


def test_a_training_batch_knows_how_large_others_are(tmp_path):
    rows = [{"q": f"the fox {i}", "a": "it is " * (1 + 8 * (i % 2))} for i in range(30)]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, prompt="q", answer="a")
    task = CausalLM(template=TEMPLATE, packing="none")
    made, stores, preprocess = read(task, splits)
    task, store = task.adapt(made.train.annotations), stores["train"]
    order = Order(len(store), 4, seed=0, lengths=store.lengths, positions=80)
    targets = task.targets(made.train.annotations, LABELS, training=True)
    batches = make_batches(
        compose([]), store, targets, order, task=task, labels=LABELS, preprocess=preprocess,
        texts=made.train.inputs, augment={}, stages={},
    )  # fmt: skip
    every = [y.numpy() for _, y in batches.from_step().take(order.steps)]
    assert len({len(y) for y in every}) > 1
    weights = {np.round(y[y > 0].max() / len(y), 5) for y in (one[..., 1] for one in every)}
    assert len(weights) == 1
    total = sum(float(y[..., 1].sum()) / len(y) for y in every)
    assert total == pytest.approx(order.steps, rel=1e-5)


def test_answers_that_are_cut_are_told(tmp_path, capsys):
    rows = [{"q": f"the fox {i}", "a": "it is"} for i in range(12)]
    rows[4]["a"] = "it is a quick fox " * 8
    splits = chat(write(tmp_path, rows), kind="language", seed=0, prompt="q", answer="a", test=0)
    task = CausalLM(template=TEMPLATE, packing="none")
    made, _, preprocess = read(task, splits)
    told = " ".join("".join(capsys.readouterr()).split())
    (name,) = [name for name, part in made.parts.items() if "chat.jsonl:5" in part.ids]
    part = made.parts[name]
    place = part.ids.index("chat.jsonl:5")
    learned = dict(part.annotations.row(place))
    lost = int(learned["cut"])
    assert f"1 example of {len(part)} in {name} with answers cut off" in told
    assert f"{lost} tokens in all: chat.jsonl:5" in told and "Raise" in told
    whole = preprocess.taught([splits.parts[name].inputs[place]]).numpy()[0]
    kept = int((learned["learned"] > 0).sum())
    assert lost > 0 and kept + lost == (whole > 0).sum()
    targets = {key: [values] for key, values in learned.items()}
    assert task.describe(targets, LABELS) == [f"{kept} tokens learned, {lost} tokens cut off"]
    bytes_ = len(rows[4]["a"].encode())
    assert learned["bytes"] == pytest.approx(bytes_ * kept / (kept + lost), abs=1)


def test_parts_of_documents_are_in_the_slices_of_the_whole(tmp_path):
    rows = [{"text": f"{i} the fox is here " * 40, "source": "pq"[i % 2]} for i in range(24)]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, text="text", slices=["source"])
    part = read(CausalLM(), splits)[0].validation
    assert len(part) > len(splits.validation)
    for name, code in zip(part.ids, part.slices["source"], strict=True):
        row = rows[int(name.split(" ")[0].rpartition(":")[2]) - 1]
        assert splits.slices["source"][code] == row["source"]


def test_figures_are_of_all_tokens_together():
    task = CausalLM()
    outputs = np.zeros((2, 4, 3), "float32")
    outputs[0, 1:] = [[1.0, 1, 1], [2.0, 0, 1], [3.0, 1, 1]]
    outputs[1, 1] = [4.0, 0, 1]
    outputs[:, 0, 2] = 1
    learned = tf.constant([[0, 1, 1, 2], [0, 2, 0, 0]])
    kept = Rows.of_tensors(task.keep(tf.constant(outputs), {}, {"learned": learned}))
    annotations = Rows.of({"bytes": np.array([5, 5])})
    statistics = task.statistics(annotations, kept, LABELS)
    found = task.figures(statistics, LABELS)
    assert found == pytest.approx({
        "loss": 2.5, "perplexity": np.exp(2.5), "bits_per_byte": 10 / np.log(2) / 10,
        "accuracy": 0.5, "end_found": 0.5,
    })  # fmt: skip
    assert task.answer(kept, LABELS)["tokens"].tolist() == [3, 1]
    for name in found:
        quick = resampled(task, LABELS, name, statistics, draws(2, 5))
        slow = [task.figures({k: v[rows] for k, v in statistics.items()}, LABELS)[name]
                for rows in draws(2, 5)]  # fmt: skip
        np.testing.assert_allclose(quick, slow)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"packing": "tight"}, r"task\.packing must be one of isolated, joined, none"),
        ({"embedding": "first"}, r"task\.embedding must be one of mean, last"),
        ({"loss_on": "answer"}, r"task\.loss_on must be one of answers, all.*Did you mean"),
        ({"monitor": "val_accuracy"}, r"task\.monitor must be a figure of which less is better"),
        ({"generate": {"max_new": -1}}, r"generate\.max_new must be a whole number"),
        ({"template": {"user": "{content}"}}, r"template\.assistant is missing"),
    ],
)
def test_settings_that_are_wrong_are_told(settings, told):
    with pytest.raises(UserError, match=told):
        CausalLM(**settings)


def test_a_network_that_reads_in_both_directions_is_refused():
    with pytest.raises(UserError, match="needs a network that reads from left to right"):
        CausalLM().reading(text("bert"))


# --- sources


def write(tmp_path, rows):
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return str(file)


def turns(*pairs):
    return {"messages": [{"role": role, "content": said} for role, said in pairs]}


GOOD = [turns(("system", "be kind"), ("user", f"hello {i}"), ("assistant", "hi")) for i in range(9)]


def test_conversations_are_read(tmp_path):
    shared = {"messages": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}
    rows = [*GOOD, shared, turns(("user", "nobody answers"))]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, messages="messages", test=0)
    texts = [one for part in splits.parts.values() for one in part.inputs]
    assert "\x1euser\x1fx\x1eassistant\x1fy" in texts and len(texts) == 10
    assert "1 row left out" in " ".join(splits.notices)
    assert splits.labels == LABELS


def test_conversations_without_messages_or_content_are_left_out(tmp_path):
    calls = turns(("user", "a"), ("assistant", None), ("user", "b"), ("assistant", "c"))
    rows = [*GOOD, {"messages": None}, calls]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, messages="messages", test=0)
    assert sum(map(len, splits.parts.values())) == len(GOOD)
    said = " ".join(splits.notices)
    assert "2 rows left out" in said and "chat.jsonl:10" in said and "chat.jsonl:11" in said


def test_columns_are_joined_into_prompts(tmp_path):
    rows = [{"i": f"do {n}", "x": "this" * (n % 2), "o": "done"} for n in range(8)]
    splits = chat(write(tmp_path, rows), kind="language", seed=0, prompt="{i}\n{x}", answer="o",
                  system="be kind", test=0)  # fmt: skip
    texts = {one for part in splits.parts.values() for one in part.inputs}
    before = "\x1esystem\x1fbe kind\x1euser\x1f"
    assert f"{before}do 1\nthis\x1eassistant\x1fdone" in texts
    assert f"{before}do 2\x1eassistant\x1fdone" in texts


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (turns(("user", "a"), ("system", "b"), ("assistant", "c")), "may stand first"),
        (turns(("system", "a"), ("system", "b"), ("assistant", "c")), "may stand first"),
        (turns(("user", "a"), ("robot", "b")), "has the role 'robot' in message 2"),
        ({"messages": "hello"}, "must hold lists of messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "content of a message must be a text"),
    ],
)
def test_a_message_that_is_none_is_told(tmp_path, row, told):
    with pytest.raises(UserError, match=told):
        chat(write(tmp_path, [*GOOD, row]), kind="language", seed=0, messages="messages")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"Exactly one of data\.text"),
        ({"prompt": "q"}, r"data\.prompt and data\.answer belong together"),
        ({"prompt": "{q}{z}", "answer": "a"}, "no column 'z'"),
        ({"text": "q", "system": "a"}, r"data\.system stands before data\.prompt"),
        ({"text": "q", "kind": "single"}, r"task=causal_lm learns"),
    ],
)
def test_columns_that_do_not_fit_are_told(tmp_path, settings, told):
    file = write(tmp_path, [{"q": f"x{i}", "a": "y"} for i in range(6)])
    with pytest.raises(UserError, match=told):
        chat(file, **{"kind": "language", "seed": 0, **settings})


def test_two_words_on_the_splits_are_one_too_many(tmp_path):
    from kerasft.data.sources import chat as source

    rows = [json.dumps({"q": f"x{i}", "a": "y", "part": "train"}) for i in range(6)]
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows), "utf-8")
    given = {"prompt": "q", "answer": "a", "split_column": "part"}
    with pytest.raises(UserError, match=r"split_column says .* the files of .* say it, too"):
        chat(str(tmp_path), kind="language", seed=0, **given)
    with pytest.raises(UserError, match=r"split_column says .* the files of .* say it, too"):
        source.look({"path": str(tmp_path), **given})
    one = str(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match="Name another file, or a part such as"):
        chat(one, kind="language", seed=0, prompt="q", answer="a", validation=one)


def test_one_document_cannot_be_split(tmp_path):
    (tmp_path / "one.txt").write_text("all of it\n\n", "utf-8")
    with pytest.raises(UserError, match=r"1 document cannot be split.*data\.documents=blank_line"):
        text_files(str(tmp_path / "one.txt"), kind="language", seed=0)


def test_empty_files_are_named_and_folders_may_be_splits(tmp_path):
    for name, words in (("train/a", "one\n\ntwo"), ("train/b", " \n"), ("val/c", "three"),
                        ("test/d", "four")):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(words, "utf-8")
    splits = text_files(str(tmp_path), kind="language", seed=0, documents="blank_line")
    assert {n: list(p.inputs) for n, p in splits.parts.items()} == {
        "train": ["one", "two"], "validation": ["three"], "test": ["four"]}  # fmt: skip
    assert "1 file left out, as empty: train/b.txt" in " ".join(splits.notices)


def test_documents_that_follow_each_other_are_joined(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"part {i}" for i in range(10)), "utf-8")
    splits = text_files(str(tmp_path / "a.txt"), kind="language", seed=0, documents="blank_line",
                        join=2)  # fmt: skip
    every = {one for part in splits.parts.values() for one in part.inputs}
    assert "part 0\n\npart 1" in every and len(every) == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"documents": "page"}, r"data\.documents must be one of file, blank_line, line"),
        ({"join": 0}, r"data\.join must be a number"),
        ({"join": 3}, r"data\.join puts documents of one file together"),
        ({"kind": "single"}, "holds texts without labels"),
    ],
)
def test_settings_of_text_files_that_are_wrong_are_told(tmp_path, settings, told):
    (tmp_path / "a.txt").write_text("a", "utf-8")
    with pytest.raises(UserError, match=told):
        text_files(str(tmp_path / "a.txt"), **{"kind": "language", "seed": 0, **settings})
