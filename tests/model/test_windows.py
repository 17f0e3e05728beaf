"""Texts that are longer than a network takes at once, read in windows."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasft.errors import UserError
from kerasft.model import tiny
from kerasft.model.text.windows import IntoWindows, OutOfWindows, Unfit, Windowed
from kerasft.tasks.windowed import in_windows

LENGTH = 12
WORDS = [
    "the", "quick", "brown", "fox", "is", "at", "once", "over", "42", "lazy", "dogs,", "and", "how",
    "vexingly", "it", "jumps!", "my", "box",
]  # fmt: skip


def lively(family):
    """Return a backbone whose positions and layers matter, and with windows."""
    keras.utils.set_random_seed(0)
    backbone = tiny.text(family, sequence_length=LENGTH)
    for variable in backbone.network.variables:
        if "float" in variable.dtype:
            variable.assign(variable + 0.3 * keras.random.normal(variable.shape, seed=3))
    return backbone, in_windows(backbone, 5, overlap=4)


def said(network, rows):
    output = network(rows)
    return np.asarray(output["sequence_output"] if isinstance(output, dict) else output)


def by_hand(backbone, wide, text):
    """Return what the network says of each token, and in which window it was read."""
    before, network = backbone.preprocess, backbone.network
    ids = np.asarray(wide.preprocess([text])["token_ids"])[0]
    first, last = int(before.start is not None), int(before.end is not None)
    content = ids[first : len(ids) - last]
    room = LENGTH - first - last
    begins = [0]
    while begins[-1] + room < len(content):
        begins.append(min(begins[-1] + room - 4, len(content) - room))
    made = []
    for begin in begins:
        row = [*ids[:first], *content[begin : begin + room], *ids[len(ids) - last :]]
        fed = {"token_ids": np.array([row]), "padding_mask": np.ones((1, len(row)), "int32"),
               "segment_ids": np.zeros((1, len(row)), "int32")}  # fmt: skip
        made.append(said(network, {name: fed[name] for name in before.inputs})[0])
    ends = [begin + room - 1 for begin in begins]
    begins[0], ends[-1] = begins[0] - 999, ends[-1] + 999  # the text's own ends take no context
    rows, windows = [], []
    for place in range(len(ids)):
        token = min(max(place - first, 0), len(content) - 1)
        known = [token - a if backbone.causal else min(token - a, b - token)
                 for a, b in zip(begins, ends, strict=True)]  # fmt: skip
        held = [n for n in range(len(begins)) if begins[n] <= token <= ends[n]]
        window = max(held, key=lambda n, known=known: (known[n], n))
        windows.append(window)
        rows.append(made[window][place - (begins[window] if window else 0)])
    return np.stack(rows), windows


@pytest.mark.parametrize("family", [
    "bert", "gpt2", *(pytest.param(name, marks=pytest.mark.slow)
                      for name in ("roberta", "albert", "llama", "distilbert", "xlm_roberta")),
])  # fmt: skip
def test_each_token_is_read_where_it_has_most_context(family):
    backbone, wide = lively(family)
    left = {v.path for v in backbone.network.variables} - {v.path for v in wide.network.variables}
    assert not any("pooled_dense" not in path for path in left)  # what says nothing of tokens
    assert {id(v) for v in wide.network.variables} <= {id(v) for v in backbone.network.variables}
    texts = [" ".join(WORDS[:count]) for count in (1, 7, 12, 18)]
    rows = wide.preprocess(texts)
    assert rows["token_ids"].shape[1] > 2 * LENGTH
    found = said(wide.network, rows)
    seen = set()
    for text, here in zip(texts, found, strict=True):
        wanted, windows = by_hand(backbone, wide, text)
        np.testing.assert_allclose(here[: len(wanted)], wanted, atol=2e-5)
        assert windows == sorted(windows)
        seen.add(windows[-1] + 1)
    assert len(seen) > 2 and max(seen) <= 5


def test_a_text_of_one_window_is_read_as_ever():
    backbone, wide = lively("bert")
    texts = ["the fox", "", "it is my box at once"]
    plain, rows = backbone.preprocess(texts), wide.preprocess(texts)
    for name in plain:
        np.testing.assert_array_equal(plain[name], rows[name])
    assert np.array_equal(said(backbone.network, plain), said(wide.network, rows))


def test_windows_begin_and_end_as_rows_do():
    ids = np.array([[1, *range(10, 24), 2], [1, 10, 11, 2, *[0] * 12]], "int32")
    columns = {"token_ids": ids, "padding_mask": (ids > 0).astype("int32")}
    made = IntoWindows(8, 2, 1, 2)({n: tf.constant(one) for n, one in columns.items()})
    assert made["token_ids"].numpy().reshape(2, 3, 8).tolist() == [
        [[1, *range(10, 16), 2], [1, *range(14, 20), 2], [1, *range(18, 24), 2]],
        [[1, 10, 11, 2, 0, 0, 0, 0]] * 3,
    ]
    features = np.arange(48).reshape(6, 8, 1)
    back = OutOfWindows(8, 2, 1, 2)(tf.constant(features), tf.constant(columns["padding_mask"]))
    # Two tokens are shared: one is read in the window before, the other in the one behind.
    assert back.numpy()[0, :, 0].tolist() == [*range(6), *range(10, 14), *range(18, 24)]
    assert back.numpy()[1, :4, 0].tolist() == [24, 25, 26, 27]
    causal = OutOfWindows(8, 2, 1, 2, causal=True)
    back = causal(tf.constant(features), tf.constant(columns["padding_mask"]))
    assert back.numpy()[0, :, 0].tolist() == [*range(7), *range(11, 15), *range(19, 24)]


def test_a_network_in_windows_comes_back_from_a_file(tmp_path):
    _, wide = lively("bert")
    rows = wide.preprocess([" ".join(WORDS)])
    wide.network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert np.array_equal(said(wide.network, rows), said(again, rows))


def test_what_cannot_be_read_in_windows_is_refused():
    backbone = tiny.text("bert", sequence_length=LENGTH)
    assert in_windows(backbone, 1) is backbone
    with pytest.raises(UserError, match=r"task\.overlap, .* must be below 10,.* Received: 10"):
        in_windows(backbone, 2, overlap=10)
    with pytest.raises(UserError, match=r"task\.windows is of single texts\. Received: images"):
        in_windows(tiny.image("mobilenet"), 2)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    network = keras.Model({"token_ids": ids}, keras.layers.Embedding(8, 4)(ids))
    with pytest.raises(Unfit, match="not told what is padding"):
        Windowed(network, LENGTH, 4, 1, 2)
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8, 4)(ids))
    network = keras.Model({"token_ids": ids, "padding_mask": mask}, pooled)
    with pytest.raises(Unfit, match="says nothing of single tokens"):
        Windowed(network, LENGTH, 4, 1, 2)
