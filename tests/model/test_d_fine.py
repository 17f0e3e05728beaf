"""The decoder of a D-FINE as a head."""

import keras
import numpy as np
import pytest
from tiny_detectors import d_fine, maps_of

from kerasft.errors import UserError
from kerasft.model.heads.detection import dfine
from kerasft.model.vision.d_fine import REFERENCE, SIDES, DFineHead, settings_of, teach
from kerasft.spec import Features
from kerasft.tasks.matched import query_loss

SETTINGS = {
    "hidden_dim": 16, "decoder_in_channels": [8, 8], "num_feature_levels": 2,
    "feat_strides": [8, 16], "num_queries": 6, "learn_initial_query": False,
    "num_decoder_layers": 2, "eval_idx": -1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16,
    "decoder_method": "default", "decoder_n_points": [2, 2], "lqe_hidden_dim": 8,
    "num_lqe_layers": 1,
}  # fmt: skip


def maps(*size, batch=2):
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (batch, size[0] // s, size[1] // s, 8)).astype("float32")
            for s in (8, 16)]  # fmt: skip


@pytest.mark.slow
def test_it_gives_what_heads_give_and_in_training_all_layers():
    head = DFineHead(3, 6, SETTINGS, name="head")
    symbolic = head([keras.Input(x.shape[1:]) for x in maps(32, 48)])
    said = head(maps(32, 48))
    assert tuple(symbolic.shape) == (None, *said.shape[1:]) == (None, 6, 8 + 3)
    assert (said[..., 4:8].numpy() == [0, 0, 48, 32]).all()
    # One image of a batch is answered as it is alone, and of any size.
    alone = head([x[:1] for x in maps(32, 48)])
    np.testing.assert_allclose(alone, said[:1], atol=1e-4)
    assert (head(maps(64, 64))[..., 4:8].numpy() == [0, 0, 64, 64]).all()
    every = head(maps(32, 48), training=True)
    assert every.shape == (2, 2 + 2, 6, 8 + 3 + SIDES + REFERENCE)
    assert not every[:, :2, :, 8 + 3 : -REFERENCE].numpy().any()


@pytest.mark.slow
def test_it_comes_back_from_a_file(tmp_path):
    head = DFineHead(3, 6, SETTINGS | {"learn_initial_query": True}, name="head")
    inputs = [keras.Input(x.shape[1:]) for x in maps(32, 48)]
    model = keras.Model(inputs, head(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(maps(32, 48)), model(maps(32, 48)))
    assert len(again.get_weights()) == len(model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {}, {"hidden_dim": 32, "learn_initial_query": True, "num_decoder_layers": 2},
])  # fmt: skip
def test_it_computes_what_kerashub_does(settings):
    network = d_fine(64, lively=True, **settings)
    images = np.random.default_rng(1).uniform(0, 1, (2, 64, 64, 3)).astype("float32")
    found = maps_of(network, images)
    head = DFineHead(3, 10, settings_of(network))
    head.build([tuple(x.shape) for x in found])
    fresh = [v.numpy() for v in head.decoder.class_embed[0].variables]
    teach(head, network)
    # What tells classes apart is new: here it is taken over, to compare all else.
    for one, other in zip(fresh, head.decoder.class_embed[0].variables, strict=True):
        np.testing.assert_array_equal(one, other)
    pairs = zip([network.enc_score_head, *network.decoder.class_embed],
                [head.scores, *head.decoder.class_embed], strict=True)  # fmt: skip
    for theirs, mine in pairs:
        mine.set_weights(theirs.get_weights())
    wanted = network(images)
    boxes, logits = (wanted[f"intermediate_{n}"].numpy() for n in ("reference_points", "logits"))
    assert logits[0].std() > 0.01 and np.abs(logits[0] - logits[1]).max() > 0.01
    said = head(found).numpy()
    np.testing.assert_allclose(said[..., 8:], logits[:, -1], atol=1e-4)
    middle, half = boxes[:, -1, :, :2] * 64, np.abs(boxes[:, -1, :, 2:]) * 32
    np.testing.assert_allclose(said[..., :2], middle - half, atol=1e-2)
    np.testing.assert_allclose(said[..., 2:4], middle + half, atol=1e-2)
    # BatchNormalization of the projections, where there are any, computes otherwise in training.
    if not settings:
        every = head(found, training=True).numpy()
        np.testing.assert_allclose(every[:, 1:, :, 8:11], logits, atol=1e-4)
        np.testing.assert_allclose(every[:, 0, :, 8:11], wanted["enc_topk_logits"], atol=1e-4)
        np.testing.assert_allclose(every[:, 1:, :, -4:], wanted["initial_reference_points"],
                                   atol=1e-5)  # fmt: skip
        np.testing.assert_allclose(every[:, 2:, :, 11:-4],
                                   wanted["intermediate_predicted_corners"][:, 1:], atol=1e-4)


@pytest.mark.slow
def test_boxes_are_learned():
    """A bright square in each image, of a class by its colour; one image has none."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    drawn, y = np.zeros((6, 64, 64, 3), "float32"), np.full((6, 1, 6), -1.0, "float32")
    for i in range(5):
        left, top = random.integers(0, 36, 2)
        side, unit = int(random.integers(16, 28)), i % 2
        drawn[i, top : top + side, left : left + side, unit] = 1.0
        y[i, 0] = [left, top, left + side, top + side, unit, 0]
    images = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(16, 5, 4, "same", activation="relu")(images)
    fine = keras.layers.Conv2D(32, 5, 2, "same", activation="relu")(x)
    coarse = keras.layers.Conv2D(32, 5, 2, "same", activation="relu")(fine)
    model = keras.Model(images, DFineHead(2, 6, SETTINGS | {"hidden_dim": 32})([fine, coarse]))
    model.compile(keras.optimizers.Adam(3e-3, clipnorm=1.0), loss=query_loss, jit_compile=False)
    losses = [model.train_on_batch(drawn, y) for _ in range(250)]
    assert losses[-1] < 0.4 * losses[0]
    said = model.predict(drawn, verbose=0)
    for i in range(5):
        unit = int(y[i, 0, 4])
        likeliest = said[i, said[i, :, 8 + unit].argmax()]
        assert likeliest[8 + unit] > likeliest[8 + 1 - unit]
        np.testing.assert_allclose(likeliest[:4], y[i, 0, :4], atol=6)
    assert said[5, :, 8:].max() < said[:5, :, 8:].max(axis=(1, 2)).min()


def test_it_wants_a_d_fine_and_no_more_queries_than_places():
    features = Features(None, maps={3: keras.Input((4, 4, 8))}, size=(32, 32))
    with pytest.raises(UserError, match=r"head=dfine is the decoder that a D-FINE preset brings"):
        dfine(features, classes=2)
