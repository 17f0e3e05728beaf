from __future__ import annotations

import functools
import io
import json

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import preprocess, tiny
from kerasft.model.preprocess import ImagePreprocess, TextPreprocess

RANDOM = np.random.default_rng(0)
# Not square, and smooth, so that the codecs that lose something lose little.
PIXELS = np.stack(
    np.broadcast_arrays(*np.ogrid[0:240:24j, 0:160:16j, 0:1], RANDOM.integers(0, 9)), -1
)[:, :, 0, :3].astype("uint8") + np.array([0, 0, 90], "uint8")


def encode(mode: str = "RGB", kind: str = "PNG", **how) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **how)
    return file.getvalue()


def deep() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(PIXELS[:, :, 0].astype("uint16") * 257).save(file, "PNG")
    return file.getvalue()


GREY = np.repeat(PIXELS[:, :, :1], 3, axis=2)
FORMATS = {
    "png": (encode, PIXELS), "bmp": (functools.partial(encode, kind="BMP"), PIXELS),
    "jpeg": (functools.partial(encode, kind="JPEG", quality=98), PIXELS),
    "progressive jpeg": (
        functools.partial(encode, kind="JPEG", quality=98, progressive=True), PIXELS),
    "gif": (functools.partial(encode, kind="GIF"), PIXELS),
    "rgba png": (functools.partial(encode, "RGBA"), PIXELS),
    "cmyk jpeg": (functools.partial(encode, "CMYK", "JPEG", quality=98), PIXELS),
    "grey png": (functools.partial(encode, "L"), None),
    "grey jpeg": (functools.partial(encode, "L", "JPEG", quality=98), None),
    "16-bit png": (deep, GREY),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_image(name):
    make, wanted = FORMATS[name]
    if wanted is None:
        wanted = np.repeat((PIXELS @ [0.299, 0.587, 0.114])[:, :, None], 3, axis=2)
    got = ImagePreprocess(24, 16)([make()]).numpy()
    assert got.shape == (1, 24, 16, 3)
    assert got.dtype == np.uint8
    assert np.abs(got[0].astype(float) - wanted).mean() < (12 if name == "gif" else 5)


def test_crop_cuts_pad_fills_and_stretch_bends():
    image = [encode()]  # 24 rows, 16 columns
    crop = ImagePreprocess(16, 16, resize="crop")(image).numpy()[0]
    np.testing.assert_array_equal(crop, PIXELS[4:20])
    pad = ImagePreprocess(24, 24, resize="pad")(image).numpy()[0]
    np.testing.assert_array_equal(pad[:, 4:20], PIXELS)
    assert not pad[:, :4].any()
    assert not pad[:, 20:].any()
    stretch = ImagePreprocess(24, 32, resize="stretch")(image).numpy()[0]
    np.testing.assert_array_equal(stretch[:, 0], PIXELS[:, 0])
    np.testing.assert_array_equal(stretch[:, -1], PIXELS[:, -1])
    with pytest.raises(UserError, match="resize must be one of crop, stretch, pad"):
        ImagePreprocess(8, 8, resize="squash")


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (13, 7), (61, 59)])
def test_any_size_comes_out_right(resize, size):
    got = ImagePreprocess(*size, resize=resize)([encode()])
    assert got.shape == (1, *size, 3)


@pytest.mark.slow
def test_images_come_out_alike_alone_batched_and_in_graphs():
    import tensorflow as tf

    ready = ImagePreprocess(11, 9)
    raw = tf.constant([make() for make, _ in FORMATS.values()])
    batched = ready(raw).numpy()
    np.testing.assert_array_equal(batched, [ready.decode(one) for one in raw])
    np.testing.assert_array_equal(batched, tf.function(ready)(raw))
    data = tf.data.Dataset.from_tensor_slices(raw)
    np.testing.assert_array_equal(batched, list(data.map(ready.decode)))
    np.testing.assert_array_equal(batched, np.concatenate(list(data.batch(3).map(ready))))
    assert ready(raw[:0]).shape == (0, 11, 9, 3)


def test_image_preprocessing_comes_back_from_its_folder(tmp_path):
    made = ImagePreprocess(11, 9, resize="pad", interpolation="bicubic", antialias=False)
    made.save(tmp_path)
    np.testing.assert_array_equal(preprocess.load(tmp_path)([encode()]), made([encode()]))
    with pytest.raises(UserError, match="the run folder is not whole"):
        preprocess.load(tmp_path / "nowhere")


def test_what_an_older_version_saved_goes_on_without_turning(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 3
    turned, made = encode(exif=exif), ImagePreprocess(24, 16)
    made.save(tmp_path)
    np.testing.assert_array_equal(preprocess.load(tmp_path)([turned])[0], PIXELS[::-1, ::-1])
    file = tmp_path / "preprocess.json"
    facts = json.loads(file.read_text())
    assert facts.pop("upright") is True
    file.write_text(json.dumps(facts))
    np.testing.assert_array_equal(preprocess.load(tmp_path)([turned])[0], PIXELS)


TEXTS = ["The quick fox, jumps!", "", "a film " * 40, "আমি ভালো আছি 😀", "naïve  café\n"]
PAIRS = [(a, b) for a in TEXTS for b in TEXTS]
MODELS = {"bert": "Bert", "roberta": "Roberta", "albert": "Albert"}


# Kept, since tracing a byte-level tokenizer takes seconds.
@functools.cache
def text(family: str, length: int = 17) -> TextPreprocess:
    return tiny.text(family, sequence_length=length).preprocess


@functools.cache
def pairs(family: str, length: int = 17) -> TextPreprocess:
    return text(family, length).paired(True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "length"),
    [("bert", 16), ("bert", 17), pytest.param("albert", 16, marks=pytest.mark.slow),
     pytest.param("roberta", 17, marks=pytest.mark.slow)],
)
def test_texts_and_pairs_are_packed_as_kerashub_packs_them(family, length):
    import keras_hub
    import tensorflow as tf

    ours = text(family, length)
    theirs = getattr(keras_hub.models, f"{MODELS[family]}TextClassifierPreprocessor")(
        ours.tokenizer, sequence_length=length
    )
    firsts, seconds = (tf.constant(column) for column in zip(*PAIRS, strict=True))
    for got, wanted in (
        (ours(TEXTS), theirs(tf.constant(TEXTS))),
        (pairs(family, length)(PAIRS), theirs((firsts, seconds), y=None)),
    ):
        assert set(got) == set(ours.inputs)
        width = got["token_ids"].shape[1]
        assert width == length  # some texts are longer than that
        for name, values in got.items():
            np.testing.assert_array_equal(values, np.asarray(wanted[name])[:, :width])


def test_a_batch_is_as_long_as_its_longest_row():
    got = text("bert")(["a", "a film"])
    np.testing.assert_array_equal(got["padding_mask"], [[1, 1, 1, 0], [1, 1, 1, 1]])
    assert text("bert")(["a"])["token_ids"].shape == (1, 3)


@pytest.mark.slow
def test_pairs_are_told_apart():
    got = pairs("bert")([("a", "film")])
    np.testing.assert_array_equal(got["segment_ids"], [[0, 0, 0, 1, 1]])
    doubled = pairs("roberta")([("t", "t")])["token_ids"].numpy()[0]
    end = text("roberta").end
    assert [i for i, token in enumerate(doubled) if token == end] == [2, 3, 5]
    assert text("bert").paired(False) is text("bert")


@pytest.mark.slow
def test_causal_networks_get_their_frame_too():
    ready = text("gpt2")
    row = ready(["the end"])["token_ids"].numpy()[0]
    assert row[0] == row[-1] == ready.tokenizer.end_token_id
    assert ready.tokenizer.detokenize(row[1:-1]) == "the end"
    assert ready([""])["token_ids"].shape == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_bytes_of_every_script_survive(family):
    ready = text(family)
    for given in ("আমি", "😀 é"):
        row = ready([given])["token_ids"].numpy()[0]
        assert ready.tokenizer.detokenize(row[1:-1]) == given


@pytest.mark.every(3)
@pytest.mark.parametrize("family", ["bert", "llama", "albert"])
def test_texts_come_out_alike_alone_batched_in_graphs_and_reloaded(family, tmp_path):
    import tensorflow as tf

    ready = text(family)
    raw = tf.constant(TEXTS)
    got = ready(raw)
    ready.save(tmp_path)
    (mapped,) = tf.data.Dataset.from_tensors(raw).map(ready)
    for other in (tf.function(ready)(raw), mapped, preprocess.load(tmp_path)(raw)):
        assert set(other) == set(got)
        for name, values in got.items():
            np.testing.assert_array_equal(other[name], values)
    for i, one in enumerate(TEXTS):
        alone = ready([one])["token_ids"].numpy()[0]
        row, mask = (got[name].numpy()[i] for name in ("token_ids", "padding_mask"))
        np.testing.assert_array_equal(alone, row[mask.astype(bool)])


@pytest.mark.slow
def test_pair_preprocessing_comes_back_as_such(tmp_path):
    for family, doubled in (("roberta", True), ("bert", False)):
        made = pairs(family)
        made.save(tmp_path / family)
        loaded = preprocess.load(tmp_path / family)
        assert loaded.pair
        assert loaded.doubled == doubled
    np.testing.assert_array_equal(loaded(PAIRS)["token_ids"], made(PAIRS)["token_ids"])


def test_batches_of_all_sizes_share_one_trace():
    ready = text("bert")
    for count in (1, 2, 5, 7):
        ready(["a film"] * count)
    assert ready._packed.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_a_network_without_a_mask_always_gets_the_same_width():
    import keras_hub

    made = keras_hub.models.FNetBackbone(
        vocabulary_size=200, num_layers=1, hidden_dim=8, intermediate_dim=8, max_sequence_length=16
    )
    ready = TextPreprocess(
        text("albert").tokenizer, inputs=tuple(made.input), sequence_length=12
    )  # fmt: skip
    assert "padding_mask" not in ready.inputs
    assert ready(["a"])["token_ids"].shape == (1, 12)
    assert ready(["a", "a film " * 20])["segment_ids"].shape == (2, 12)


@pytest.mark.slow
@pytest.mark.parametrize("family", [
    "bert", pytest.param("gpt2", marks=pytest.mark.slow),
    pytest.param("albert", marks=pytest.mark.slow),
    pytest.param("llama", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_seed_that_is_set_between_leaves_the_tokenizer_alone(family, tmp_path):
    import keras

    ready = text(family)
    wanted = ready(["a fine film"])["token_ids"]
    for _ in range(2):  # as a second run in the same process does
        keras.utils.set_random_seed(0)
        np.testing.assert_array_equal(ready(["a fine film"])["token_ids"], wanted)
    keras.utils.set_random_seed(0)
    ready.save(tmp_path)
    loaded = preprocess.load(tmp_path)
    np.testing.assert_array_equal(loaded(["a fine film"])["token_ids"], wanted)


def test_what_a_word_is_is_saved_where_it_is_no_run_of_letters(tmp_path):
    ready = text("bert")
    assert ready.paired(False) is ready
    for words in ("letters", "posts"):
        ready.changed(words=words).save(tmp_path)
        assert preprocess.load(tmp_path).words == words
