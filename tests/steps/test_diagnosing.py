"""Runs with something planted in them are diagnosed right, and what is proposed can be run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft.config.checks import settle
from kerasft.evaluation.diagnosis import rules
from kerasft.steps.looking import look

GOOD, BAD = ("good", "fine", "warm"), ("bad", "dull", "cold")
OTHERS = ("film", "that", "is", "at", "once", "box", "with", "dog", "fox", "lazy", "quick", "over")
MEANINGLESS = (OTHERS[:6], OTHERS[:6])
RUN = ("baseline=null", "progress=false", "callbacks=none", "checkpoint=none", "batch_size=16")
TEXTS = (*RUN, "data=memory", "data.test=0", "backbone=tiny_bert", "backbone.layers=1",
         "backbone.sequence_length=12", "optimizer.learning_rate=2e-3")  # fmt: skip
IMAGES = (*RUN, "backbone=keras_file", "backbone.scale=0.005", "optimizer.learning_rate=2e-3")
DIGITS = (*IMAGES, "data.train_per_class=60", "data.validation_per_class=30")


def texts(count: int, seed: int, *, words=(GOOD, BAD)) -> dict[str, list[str]]:
    """Return texts of five words, one of which says what they are."""
    draw = random.Random(seed)
    made: dict[str, list[str]] = {"text": [], "label": []}
    for _ in range(count):
        kind = draw.randrange(2)
        chosen = [*draw.sample(OTHERS, 4), draw.choice(words[kind])]
        draw.shuffle(chosen)
        made["text"].append(" ".join(chosen))
        made["label"].append(("pos", "neg")[kind])
    return made


def marked(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return texts that also have a word for what they are."""
    both = zip(rows["text"], rows["label"], strict=True)
    return {**rows, "text": [f"{text} {'five' if label == 'pos' else 'jugs'}"
                             for text, label in both]}  # fmt: skip


def unlabelled(count: int, seed: int) -> dict[str, list]:
    """Return digits with labels that have nothing to do with them."""
    from sklearn.datasets import load_digits

    draw = np.random.default_rng(seed)
    images = load_digits().images[draw.permutation(1797)[:count]]
    images = np.repeat((images * 15).astype("uint8")[..., None], 3, axis=-1)
    return {"image": list(images), "label": [str(i % 10) for i in range(count)]}


def network(place: Path, units: int) -> str:
    """Write a network of one hidden layer for images of 8 x 8 pixels, and return its file."""
    import keras

    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(units, 8, activation="relu", name="hidden")(images)
    file = place / f"{units}.keras"
    keras.Model(images, hidden).save(file)
    return f"backbone.path={file}"


# Name -> the overrides and data of a run, of a folder for its files.
CASES = {
    "good": lambda place: ((*DIGITS, network(place, 64), "epochs=12"), None),
    "small network": lambda place: ((*DIGITS, network(place, 3), "epochs=15"), None),
    "shuffled labels": lambda place: (
        (*IMAGES, "data=memory", "data.test=0", network(place, 64), "epochs=60", "optimizer.learning_rate=5e-3"),
        {"train": unlabelled(100, 1), "validation": unlabelled(200, 2)},
    ),
    "few examples": lambda place: (
        (*DIGITS, network(place, 64), "epochs=40", "data.train_per_class=2"), None
    ),
    "rate too high": lambda place: (
        (*TEXTS, "epochs=5", "optimizer.learning_rate=0.2"),
        {"train": texts(240, 1), "validation": texts(100, 2)},
    ),
    "rate too low": lambda place: (
        (*DIGITS, network(place, 64), "epochs=8", "optimizer.learning_rate=2e-5"), None
    ),
    "leak": lambda place: (
        (*TEXTS, "epochs=2", "batch_size=8"),
        {"train": marked(texts(480, 1)), "validation": marked(texts(100, 2))},
    ),
    "leak in training": lambda place: (
        (*TEXTS, "epochs=2", "batch_size=8"),
        {"train": marked(texts(480, 1, words=MEANINGLESS)),
         "validation": texts(100, 2, words=MEANINGLESS)},
    ),
    "frozen": lambda place: (
        (*DIGITS, network(place, 4), "epochs=15", "finetune=linear_probe",
         "optimizer.learning_rate=2e-2"), None,
    ),
}  # fmt: skip
EXPECTED = {
    "good": [rules.WELL],
    "small network": [rules.UNDER],
    "shuffled labels": [rules.LABELS],
    "few examples": [rules.LITTLE, rules.OVER],
    "rate too high": [rules.HIGH],
    "rate too low": [rules.LOW],
    "leak": [rules.LEAK],
    "leak in training": [rules.LEAK],
    "frozen": [rules.FROZEN],
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a function that runs a planted case once: overrides, data and folder."""
    place = tmp_path_factory.mktemp("planted")
    made: dict[str, tuple[list[str], dict | None, Path]] = {}

    def case(name: str) -> tuple[list[str], dict | None, Path]:
        if name not in made:
            overrides, data = CASES[name](place)
            folder = place / name.replace(" ", "_")
            kerasft.train([*overrides, f"output_dir={folder}"], data=data)
            made[name] = list(overrides), data, folder
        return made[name]

    return case


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_planted_is_found(planted, name):
    _, _, folder = planted(name)
    found = kerasft.diagnose(str(folder))
    assert list(found.names) == EXPECTED[name], found.verdicts
    assert all(one.evidence for one in found.verdicts)
    assert (name == "good") == (not found.remedies)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "good"])
def test_each_remedy_passes_the_check_with_the_overrides_of_the_run(planted, name):
    overrides, _, folder = planted(name)
    proposed = kerasft.diagnose(str(folder)).remedies
    settings = [one for one in proposed if one.overrides]
    assert settings and all(one.why and one.verdict for one in proposed)
    for one in settings:
        look(settle([*overrides, *one.overrides], (), ()))
        assert "text" not in str(overrides) or not one.line.startswith("augment=")
