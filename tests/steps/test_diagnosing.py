"""Runs with something planted in them are diagnosed right, and what is proposed can be run."""

from __future__ import annotations

import io
import json
import random
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import kerasft
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.evaluation.diagnosis import rules
from kerasft.evaluation.diagnosis.remarks import remarks
from kerasft.evaluation.diagnosis.rules import verdicts
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.advice.case_files import read_case
from kerasft.steps.advice.diagnosing import measured_of
from kerasft.steps.looks.looking import look
from kerasft.steps.measuring.training_sample import sample_of

GOOD, BAD = ("good", "fine", "warm"), ("bad", "dull", "cold")
OTHERS = ("film", "that", "is", "at", "once", "box", "with", "dog", "fox", "lazy", "quick", "over")
MEANINGLESS = (OTHERS[:6], OTHERS[:6])
RUN = ("baseline=null", "plots=false", "progress=false", "callbacks=none", "checkpoint=none",
       "batch_size=16")  # fmt: skip
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
    hidden = keras.layers.Conv2D(units, 8, activation="tanh", name="hidden")(images)
    file = place / f"{units}.keras"
    keras.Model(images, hidden).save(file)
    return f"backbone.path={file}"


# Name -> the overrides and data of a run, of a folder for its files.
CASES = {
    "good": lambda place: ((*DIGITS, network(place, 64), "epochs=12"), None),
    "small network": lambda place: ((*DIGITS, network(place, 3), "epochs=15"), None),
    "shuffled labels": lambda place: (
        (*IMAGES, "data=memory", "data.test=0", network(place, 64), "epochs=80",
         "optimizer.learning_rate=5e-3"),
        {"train": unlabelled(100, 1), "validation": unlabelled(200, 2)},
    ),
    "few examples": lambda place: (
        (*DIGITS, network(place, 64), "epochs=80", "data.train_per_class=1",
         "batch_size=10", "optimizer.learning_rate=5e-3"), None
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


@dataclass
class Planted:
    """A run with something planted in it.

    Args:
        overrides: Those of the run.
        folder: Its folder.
        said: What it printed.
    """

    overrides: list[str]
    folder: Path
    said: str


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a function that runs a planted case, once."""
    place = tmp_path_factory.mktemp("planted")
    made: dict[str, Planted] = {}

    def case(name: str) -> Planted:
        if name not in made:
            overrides, data = CASES[name](place)
            folder = place / name.replace(" ", "_")
            with redirect_stdout(io.StringIO()) as said:
                kerasft.train([*overrides, f"output_dir={folder}"], data=data)
            made[name] = Planted(list(overrides), folder, said.getvalue())
        return made[name]

    return case


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_planted_is_found(planted, name):
    run = planted(name)
    found = kerasft.diagnose(str(run.folder))
    assert list(found.names) == EXPECTED[name], found.verdicts
    assert all(one.evidence for one in found.verdicts)
    if name == "good":
        assert not found.remedies and "diagnosis:" not in run.said
    else:
        line = next(line for line in run.said.splitlines() if line.startswith("diagnosis: "))
        assert line.startswith(f"diagnosis: {', '.join(EXPECTED[name])} (")
        assert line.endswith(f"`kerasft diagnose {run.folder}` says what may help")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "good"])
def test_each_remedy_passes_the_check_with_the_overrides_of_the_run(planted, name):
    run = planted(name)
    proposed = kerasft.diagnose(str(run.folder)).remedies
    settings = [one for one in proposed if one.overrides]
    assert settings and all(one.why and one.verdict for one in proposed)
    for one in settings:
        look(settle([*run.overrides, *one.overrides], (), ()))
        assert "backbone=tiny_bert" not in run.overrides or "augment" not in one.line


# --- a run that is there -------------------------------------------------------------------------


@pytest.fixture
def copied(tiny_run, tmp_path) -> Path:
    """A copy of a finished run on images."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def test_the_sample_is_a_function_of_the_seed():
    assert sample_of(100, 5, 3).tolist() == sample_of(100, 5, 3).tolist()
    assert sample_of(100, 5, 3).tolist() != sample_of(100, 5, 4).tolist()
    assert sample_of(3, 5, 0).tolist() == [0, 1, 2] and sample_of(3, 0, 0).tolist() == []


@pytest.mark.slow
def test_a_training_sample_is_measured_as_validation_is(tiny_result):
    from kerasft.data.sources.digits import digits

    facts = json.loads((tiny_result.output_dir / "logs" / "training_sample.json").read_text())
    splits = digits(kind="single", seed=0, train_per_class=3, validation_per_class=2)
    assert facts["examples"] == len(splits.validation) == 20
    assert (facts["train"], facts["validation"]) == (30, 20)
    assert facts["classes"] == {str(digit): 3 for digit in range(10)}
    assert facts["floor"]["accuracy"] == 0.1
    part = splits.train.take(sample_of(30, 20, 0))
    answers = tiny_result.finetuned(part.inputs)
    true = np.array([splits.labels.names[int(one)] for one in part.labels])
    assert facts["figures"]["accuracy"] == pytest.approx((answers["label"] == true).mean())
    given = answers["probabilities"][np.arange(20), part.labels.astype(int)]
    assert facts["figures"]["log_loss"] == pytest.approx(-np.log(given).mean(), rel=1e-4)
    lines = (tiny_result.output_dir / "logs" / "training_sample.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(part.ids)


def test_a_run_is_diagnosed_on_the_command_line(copied, kerasft_cli):
    said = kerasft_cli("diagnose", str(copied))
    assert said.code == 0 and said.out.startswith("verdict: ")
    assert "how far weights moved in an epoch" in said.out
    plain = json.loads(kerasft_cli("diagnose", str(copied), "--json").out)
    assert plain == json.loads((copied / "diagnosis.json").read_text())
    assert said.out.startswith(f"verdict: {plain['verdicts'][0]['verdict']}\n")
    assert len(plain["measured"]["updates"]) == 2
    assert plain["measured"]["examples"] == {"train": 30, "validation": 20, "sample": 20}


def test_a_run_that_never_ended_is_judged_by_its_epochs(copied):
    whole = kerasft.diagnose(str(copied))
    for name in ("metrics.json", "predictions", "checkpoints", "evidence.npz"):
        place = copied / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    for file in (copied / "logs").glob("training_sample*"):
        file.unlink()
    found = kerasft.diagnose(str(copied))
    assert found.verdicts and found.measured["examples"]["sample"] == 0
    lines = (copied / "logs" / "epochs.jsonl").read_text().splitlines()
    best = max(map(json.loads, lines), key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert found.measured["gap"]["training"] == best["accuracy"]
    assert found.measured["gap"]["validation"] == best["val_accuracy"]
    assert found.measured["updates"] == whole.measured["updates"]
    (copied / "logs" / "epochs.jsonl").unlink()
    with pytest.raises(UserError, match="has not come to the end of an epoch"):
        kerasft.diagnose(str(copied))
    (copied / "logs" / "faults.jsonl").write_text('{"epoch": 1}\n')
    assert kerasft.diagnose(str(copied)).names == (rules.HIGH,)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_measured_once(copied, capsys):
    sample = copied / "logs" / "training_sample.json"
    wanted = json.loads(sample.read_text())
    for name in ("training_sample.json", "training_sample.jsonl", "updates.jsonl"):
        (copied / "logs" / name).unlink()
    assert kerasft.diagnose(str(copied), measure=False).measured["examples"]["sample"] == 0
    assert not sample.exists()
    found = kerasft.diagnose(str(copied))
    again = json.loads(sample.read_text())
    figures = {n: v for n, v in wanted["figures"].items() if isinstance(v, float)}
    assert {n: again["figures"][n] for n in figures} == pytest.approx(figures, rel=1e-4)
    assert {**again, "figures": 0} == {**wanted, "figures": 0}
    assert found.measured["updates"] == [] and found.measured["examples"]["sample"] == 20
    # Without its network it is judged by its log, which is said.
    sample.unlink()
    (copied / "checkpoints" / "best.keras").write_bytes(b"")
    kerasft.diagnose(str(copied))
    assert "the gap is not measured" in capsys.readouterr().err


@pytest.mark.every(2)
@pytest.mark.parametrize(("command", "wanted"), [
    ("kerasft train data.train_per_class=3 output_dir=run resume=auto",
     "kerasft train data.train_per_class=3"),
    ("kerasft train --config-dir mine --trust=mine head.dropout=0.2",
     "kerasft train --config-dir mine --trust mine head.dropout=0.2"),
    ("__main__.py train seed=1", "kerasft train seed=1"),
    ("kerasft train --from outputs/last epochs=3", ""),
    ("kerasft resume outputs/last", ""),
    ("python train.py", ""), ("kerasft train 'no end", ""), ("kerasft train head=none", ""),
])  # fmt: skip
def test_the_command_of_a_run_is_used_again(copied, tmp_path, command, wanted):
    (tmp_path / "mine").mkdir()
    facts = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps(facts | {"command": command}))
    assert kerasft.diagnose(str(copied)).command == wanted


ODD = (None, -1, "a", [], {"a": {"b": 1}})


def test_a_folder_from_anybody_gives_a_diagnosis_or_a_message(copied):
    """Each value of the files that are read is replaced by others, one at a time."""
    folder, logs, seen = RunFolder(copied), copied / "logs", 0
    cfg = folder.read_config()
    for file, rows in ((logs / "training_sample.json", 1), (logs / "epochs.jsonl", 2),
                       (logs / "updates.jsonl", 2), (logs / "training_sample.jsonl", 20),
                       (copied / "metrics.json", 1)):  # fmt: skip
        whole = file.read_text()
        first = json.loads(whole if rows == 1 else whole.splitlines()[0])
        for name in list(first)[:9]:
            for value in ODD:
                line = json.dumps({**first, name: value})
                rest = [] if rows == 1 else whole.splitlines()[1:]
                file.write_text("\n".join([line, *rest]))
                seen += 1
                try:
                    case = read_case(folder, cfg)
                    assert verdicts(case) and remarks(case) is not None and measured_of(case)
                except UserError as error:
                    assert file.name in str(error)
        file.write_text(whole)
    assert seen > 100


def test_what_is_no_run_is_told(tmp_path, kerasft_cli):
    assert "There is no run folder 'nowhere'" in kerasft_cli("diagnose", "nowhere").err
    assert "is no run folder" in kerasft_cli("diagnose", str(tmp_path)).err
    said = kerasft_cli("train", "training_sample=-1")
    assert said.code == 2 and "training_sample is how many training examples" in said.err
