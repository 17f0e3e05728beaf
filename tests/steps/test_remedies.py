"""Remedies fit the run that they are for, and pass the check with its own overrides."""

from __future__ import annotations

import pytest

from kerasft.config.checks import settle
from kerasft.config.composition import compose
from kerasft.evaluation.diagnosis import rules
from kerasft.evaluation.diagnosis.case import Case
from kerasft.evaluation.diagnosis.rules import Verdict
from kerasft.steps.advice.remedies import Run, applied, remedies

IMAGES = ("data=image_folder", "data.path=photos", "backbone=tiny_resnet")
TEXTS = ("data=table", "data.path=a.csv", "data.text=text", "data.label=label",
         "backbone=tiny_bert")  # fmt: skip
TASKS = {
    "images": IMAGES,
    "texts": TEXTS,
    "numbers": (*TEXTS, "task=regression"),
    "several labels": (*TEXTS, "task=multi_label"),
    "boxes": ("data=coco", "data.path=photos", "backbone=tiny_resnet", "task=detection",
              "head=anchor_free"),
    "masks": ("data=mask_folder", "data.path=photos", "backbone=tiny_resnet", "task=segmentation",
              "head=decoder"),
}  # fmt: skip
TRIED = {
    "nothing set": (),
    "a rate": ("optimizer.learning_rate=1e-2",),
    "stages": ("finetune=two_phase", "finetune.head.epochs=2"),
    "gradual": ("finetune=gradual",),
    "a probe": ("finetune=linear_probe",),
    "an adapter and more": ("adapt=lora", "schedule=constant", "callbacks=none"),
}


def case(overrides, *, falling=True, moved=(0.1, 0.02)):
    frozen = "finetune=linear_probe" in overrides
    losses = [0.7, 0.6, 0.5, 0.4, 0.3, 0.2] if falling else [0.7, 0.69, 0.69, 0.69, 0.69, 0.69]
    parts = {"head": {"weights": 1.0, "moved": moved[0]}}
    if not frozen:
        parts["layer"] = {"weights": 1.0, "moved": moved[1]}
    stage = "probe" if frozen else "all" if "finetune=two_phase" in overrides else "full"
    rows = [{"epoch": i + 1, "stage": stage, "loss": one, "val_loss": one, "val_accuracy": 0.9,
             "learning_rate": 1e-3} for i, one in enumerate(losses)]  # fmt: skip
    updates = [{"epoch": row["epoch"], "stage": stage, "peak": 1e-3, "parts": parts}
               for row in rows]  # fmt: skip
    return Case(
        rows, updates, "val_accuracy", "max", frozen=frozen, copies=3,
        modality="text" if "backbone=tiny_bert" in overrides else "images",
    )  # fmt: skip


def proposed(overrides, *names, known=False, **how):
    run = Run(compose(overrides), list(overrides) if known else None)
    found = [Verdict(name, ("...",)) for name in names or rules.RULES]
    return remedies(found, case(overrides, **how), run)


def lines(made):
    return [one.line for one in made if one.overrides]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "tried"), [
    *((task, "nothing set") for task in TASKS), *(("texts", one) for one in [*TRIED][1:]),
    ("images", "a probe"), ("boxes", "stages"),
])  # fmt: skip
def test_each_remedy_of_each_verdict_passes_the_check(task, tried):
    overrides = (*TASKS[task], *TRIED[tried])
    made = proposed(overrides, known=True)
    assert len(lines(made)) >= 5
    for one in made:
        settle([*overrides, *one.overrides], (), ())
        assert one.why and one.verdict in rules.NAMES
    said = " ".join(lines(made))
    if task in ("boxes", "masks"):
        assert f"augment={task}" in said and "augment=strong" not in said
    elif task == "images":
        assert "augment=strong" in said
    else:
        assert "augment" not in said
    assert ("label_smoothing" in said) == (task in ("images", "texts", "several labels"))


@pytest.mark.slow
def test_rates_are_reckoned_from_that_of_the_run():
    texts = (*TEXTS, "optimizer.learning_rate=1e-3")
    assert lines(proposed(texts, rules.HIGH, moved=(1, 3.0)))[:2] == [
        "optimizer.learning_rate=1e-5", "optimizer.learning_rate=null",
    ]  # fmt: skip
    assert lines(proposed(texts, rules.HIGH, moved=(1, 0.3)))[0] == "optimizer.learning_rate=1e-4"
    # It moved by 6 x 0.0005, and should by 0.3: a hundred times more, and no more at once.
    low = lines(proposed(texts, rules.LOW, moved=(5e-4, 1e-5)))
    assert low[0] == "optimizer.learning_rate=1e-1"
    stages = (*TEXTS, "finetune=two_phase")
    assert lines(proposed(stages, rules.HIGH, moved=(1, 0.3)))[0] == (
        "finetune.all.learning_rate=1e-4"
    )
    gradual = (*TEXTS, "finetune=gradual")
    assert lines(proposed(gradual, rules.HIGH, moved=(1, 0.3)))[0] == "optimizer.learning_rate=1e-4"
    rated = (*TEXTS, "finetune.full.rate=0.1")
    assert lines(proposed(rated, rules.HIGH, moved=(1, 0.3)))[0] == "optimizer.learning_rate=1e-3"


def test_a_run_without_an_epoch_has_its_rate_from_the_config():
    found = [Verdict(rules.HIGH, ("...",))]
    for more, wanted in (((), "schedule"), (("optimizer.learning_rate=1.0",), "optimizer")):
        cfg = compose([*TEXTS, *more, "schedule.warmup=0.0"])
        assert lines(remedies(found, Case([], faults=1), Run(cfg)))[0].startswith(wanted)


@pytest.mark.slow
def test_what_is_set_already_is_not_proposed():
    plain = lines(proposed(TEXTS, rules.OVER))
    assert {"task.label_smoothing=0.1", "head.dropout=0.3", "regularize=dropout"} <= {*plain}
    held = (*TEXTS, "task.label_smoothing=0.2", "head.dropout=0.5", "regularize=dropout")
    assert not {*lines(proposed(held, rules.OVER))} & {*plain} - {
        "finetune=linear_probe", "adapt=lora", "epochs=1",
    }  # fmt: skip
    frozen = lines(proposed((*IMAGES, "finetune=linear_probe"), rules.FROZEN))
    assert frozen[0] == "finetune=two_phase" and "finetune=full" in frozen
    assert "epochs=12" in lines(proposed(TEXTS, rules.UNDER))
    assert lines(proposed(TEXTS, rules.UNDER, falling=False))[0] == "head=mlp"
    copied = lines(proposed(TEXTS, rules.LEAK))
    assert copied[0] == "data.group=text"
    assert proposed(TEXTS, rules.WELL) == []


@pytest.mark.parametrize(("overrides", "more"), [
    (["experiment=hymenoptera_mobilenet"], []),
    (["finetune=two_phase", "finetune.head.epochs=2"], ["~finetune.head"]),
    (["finetune=two_phase", "finetune.head.epochs=2", "finetune.all.rate=2"],
     ["~finetune.head", "~finetune.all"]),
])  # fmt: skip
def test_stages_that_a_run_set_give_way(overrides, more, monkeypatch, tmp_path):
    monkeypatch.setenv("KERASFT_DATA", str(tmp_path))
    cfg = compose(overrides)
    found = [Verdict(rules.OVER, ("...",))]
    made = remedies(found, case(("finetune=two_phase",)), Run(cfg, overrides))
    one = next(one for one in made if one.overrides[0] == "finetune=linear_probe")
    assert one.overrides == ("finetune=linear_probe", *more)
    assert list(settle([*overrides, *one.overrides], (), ()).finetune) == ["probe"]


@pytest.mark.slow
def test_with_and_without_the_overrides_of_a_run_the_same_is_proposed():
    known, unknown = (lines(proposed(TEXTS, known=one)) for one in (True, False))
    assert known == unknown


def test_without_the_overrides_of_a_run_its_config_is_asked():
    cfg = compose(TEXTS)
    changed = applied(cfg, ["finetune=linear_probe", "epochs=3", "head.dropout=0.3"])
    assert (list(changed.finetune), changed.epochs, changed.head.dropout) == (["probe"], 3, 0.3)
    assert changed.finetune.probe.epochs == 3
    assert list(applied(compose(["finetune=two_phase"]), ["~finetune.head"]).finetune) == ["all"]
    assert list(cfg.finetune) == ["full"]
