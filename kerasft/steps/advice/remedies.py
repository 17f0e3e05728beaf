"""What may help a run, as overrides that fit its own config and can be pasted."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from kerasft.config.checks import check, settle
from kerasft.config.composition import compose
from kerasft.config.replaced import keys_of
from kerasft.config.schema import RUNTIME
from kerasft.errors import UserError
from kerasft.evaluation.diagnosis import rules
from kerasft.evaluation.diagnosis.case import Case
from kerasft.evaluation.diagnosis.curves import is_falling

STAGE = "kerasft.training.stages.Stage"
# A rate is changed by no more than this at once, and by no less: neighbours differ too little.
MOST, LEAST = 100.0, 3.0
# About how far the backbone moves in an epoch, and a head that begins at random in a run, where all
# goes well (docs/diagnose.md has one: 0.02 and 0.6). Rates are set to come there, since updates are
# nearly proportional to the rate.
BACKBONE_MOVES, HEAD_MOVES = 0.03, 0.3
# How many times the epochs of the last stage are proposed where it was too short.
LONGER = 2
# So many settings are shown; `diagnosis.json` has all.
SHOWN = 6


@dataclass(frozen=True)
class Remedy:
    """Something that may help.

    Args:
        overrides: What is set, behind the run's own overrides; none where it is no setting.
        why: What it does, in a clause.
        verdict: What it is for.
    """

    overrides: tuple[str, ...]
    why: str
    verdict: str = ""

    @property
    def line(self) -> str:
        """The overrides as they are typed."""
        return shlex.join(self.overrides)

    def to_dict(self) -> dict[str, Any]:
        return {"overrides": list(self.overrides), "why": self.why, "verdict": self.verdict}


@dataclass(frozen=True)
class Run:
    """What remedies are held against.

    Args:
        cfg: The config of the run.
        overrides: The overrides that it was composed of; `None` where they are not known.
        config_dirs: Folders with the user's own configs.
        trusted: Import prefixes that its parts may come from.
    """

    cfg: DictConfig
    overrides: Sequence[str] | None = None
    config_dirs: Sequence[str] = ()
    trusted: Sequence[str] = ()

    def takes(self, overrides: Sequence[str]) -> bool:
        """Whether `kerasft check` passes the run's config with further overrides."""
        chooses = any(_key(one) in RUNTIME or one.startswith("~") for one in overrides)
        try:
            # Other choices meet what the run set of the former ones; values can be put in place.
            if self.overrides is not None and chooses:
                settle([*self.overrides, *overrides], self.config_dirs, self.trusted)
            else:
                check(applied(self.cfg, overrides), trusted=self.trusted)
        except UserError:
            return False
        return True

    def fitting(self, overrides: Sequence[str]) -> tuple[str, ...] | None:
        """Return overrides that the run takes: these, or these without former stages; or `None`."""
        if self.takes(overrides):
            return tuple(overrides)
        chosen = next((one for one in overrides if one.startswith("finetune=")), None)
        if chosen is None:
            return None
        # What overrides set of stages stays behind when others are chosen.
        given = [f"{key}." for key in keys_of(self.overrides or ())]
        stays = [
            name for name in self.cfg.finetune
            if name not in _choice(chosen)
            and any(key.startswith(f"finetune.{name}.") for key in given)
        ]
        more = [*overrides, *(f"~finetune.{name}" for name in stays)]
        return tuple(more) if stays and self.takes(more) else None


def applied(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return a recorded config with overrides in it.

    Args:
        cfg: The config.
        overrides: `GROUP=CHOICE` and `KEY=VALUE`, as remedies have them.

    Example:
        >>> from kerasft.config.composition import compose
        >>> applied(compose(), ["epochs=3", "head=mlp"]).head.depth
        1
    """
    made = cfg.copy()
    OmegaConf.set_struct(made, False)
    for one in overrides:
        key, _, value = one.partition("=")
        if key.startswith("~"):
            group, _, name = key[1:].partition(".")
            made[group].pop(name, None)
        elif key in RUNTIME:
            made[key] = _choice(one)
        else:
            parsed = OmegaConf.create(f"value: {value}")["value"]
            OmegaConf.update(made, key, parsed, force_add=True)
    return made


def _key(override: str) -> str:
    return override.partition("=")[0]


@lru_cache(maxsize=64)
def _choice(override: str) -> dict[str, Any]:
    """Return what a choice puts into a group, with its interpolations as they are."""
    node = compose([override])[_key(override)]
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))


def remedies(found: Sequence[rules.Verdict], case: Case, run: Run) -> list[Remedy]:
    """Return what may help, the likeliest first.

    Args:
        found: The verdicts.
        case: What the run went through.
        run: Its config and overrides; what these do not take is left out.
    """
    made: list[Remedy] = []
    for verdict in found:
        for overrides, why in _FOR[verdict.name](case, run.cfg):
            if any(one.overrides == overrides and overrides for one in made):
                continue
            fitting = run.fitting(overrides) if overrides else ()
            if fitting is not None:
                made.append(Remedy(fitting, why, verdict.name))
    return made


# --- for each verdict ----------------------------------------------------------------------------

Candidates = Iterator[tuple[tuple[str, ...], str]]


def _lower_rate(case: Case, cfg: DictConfig) -> Candidates:
    far = max(case.backbone_moves or case.head_moves, default=math.nan)
    factor = BACKBONE_MOVES / far if far > 0 else 1 / 10
    if math.isnan(peak := case.peak):
        peak = cfg.optimizer.get("learning_rate") or math.nan
    rate = peak * min(max(factor, 1 / MOST), 1 / LEAST)
    if rate > 0:
        why = "weights then move by about as much as in runs that go well"
        yield from _rate(cfg, peak, rate, why)
    if cfg.optimizer.get("learning_rate") is not None:
        yield ("optimizer.learning_rate=null",), "takes the backbone's usual rate"
    if "warmup" in (cfg.schedule or {}) and (cfg.schedule.get("warmup") or 0) < 0.1:
        yield ("schedule.warmup=0.1",), "has the first steps small"
    yield ("faults=rollback",), "goes back and lowers the rate by itself where a loss blows up"
    if not case.frozen:
        yield ("finetune=two_phase",), "trains the head first, then all at a tenth of the rate"


def _higher_rate(case: Case, cfg: DictConfig) -> Candidates:
    total = sum(case.head_moves) or sum(case.backbone_moves)
    factor = HEAD_MOVES / total if total > 0 else 10.0
    rate = case.peak * min(max(factor, LEAST), MOST)
    why = "weights then move by about as much as in runs that go well"
    yield from _rate(cfg, case.peak, rate, why)
    if cfg.optimizer.get("learning_rate") is not None:
        yield ("optimizer.learning_rate=null",), "takes the backbone's usual rate"
    yield (f"epochs={_epochs(case) * LONGER}",), "gives the same rate more steps"


def _rate(cfg: DictConfig, peak: float, rate: float, why: str) -> Candidates:
    """Yield what has the last stage train at a rate."""
    stages = [name for name, node in cfg.finetune.items() if node is not None]
    last = stages[-1]
    own = cfg.finetune[last].get("learning_rate")
    plain = cfg.finetune[last].get("_target_") == STAGE
    if own is not None or (plain and len(stages) > 1):
        yield (f"finetune.{last}.learning_rate={_short(rate)}",), f"{why} (was {peak:.2g})"
        return
    share = float(cfg.finetune[last].get("rate") or 1.0)
    yield (f"optimizer.learning_rate={_short(rate / share)}",), f"{why} (was {peak:.2g})"


def _short(rate: float) -> str:
    """Return a rate with one digit.

    Example:
        >>> _short(3.2e-05)
        '3e-5'
    """
    return re.sub(r"e([+-])0", r"e\1", f"{rate:.0e}")


def _epochs(case: Case) -> int:
    """Return the epochs of the last stage, which `epochs` sets."""
    stage = str(case.epochs[-1]["stage"]).partition("/")[0]
    return max(sum(str(row["stage"]).partition("/")[0] == stage for row in case.epochs), 1)


def _fit_more(case: Case, cfg: DictConfig) -> Candidates:
    if is_falling(case.values("loss")):
        yield (f"epochs={_epochs(case) * LONGER}",), "training loss was still falling"
        yield from _rate(cfg, case.peak, case.peak * LEAST, "comes farther in as many steps")
    if case.frozen or _rests_partly(cfg):
        yield ("finetune=full",), "has the whole network learn"
        yield ("finetune=two_phase",), "has the head learn first, then the whole network"
    if (cfg.head or {}).get("_target_") == "kerasft.model.heads.pooled.linear":
        yield ("head=mlp",), "puts a hidden layer between features and classes"
    if any((cfg.adapt or {}).values()):
        yield ("adapt=none",), "has the weights themselves learn, not only an adapter"
    if cfg.regularize:
        yield ("regularize=none",), "holds nothing back"
    if ((cfg.head or {}).get("dropout") or 0) > 0:
        yield ("head.dropout=0.0",), "has the head see all features"
    if cfg.augment and case.modality == "images":
        if len(cfg.augment) > 3:
            yield ("augment=light",), "changes images less"
        yield ("augment=none",), "shows images as they are"
    if not is_falling(case.values("loss")):
        yield (f"epochs={_epochs(case) * LONGER}",), "gives it more steps"
    yield (), "a larger or better fitting network: `kerasft models` lists those that there are"


def _hold_back(case: Case, cfg: DictConfig) -> Candidates:
    if case.modality == "images":
        yield from _augment(cfg)
    if "label_smoothing" not in cfg.task or not cfg.task.get("label_smoothing"):
        yield ("task.label_smoothing=0.1",), "keeps the network from being too sure"
    if ((cfg.head or {}).get("dropout") or 0) < 0.3:
        yield ("head.dropout=0.3",), "has the head rely on no single feature"
    if case.modality == "text" and not cfg.regularize:
        yield ("regularize=dropout",), "more dropout within the backbone"
    if not case.frozen:
        if not any((cfg.adapt or {}).values()):
            yield ("adapt=lora",), "trains small updates in place of all weights"
        yield ("finetune=linear_probe",), "trains the head alone: the backbone keeps what it knows"
    if not cfg.regularize:
        yield ("regularize=l2",), "pulls the weights towards 0"
    best, last = case.best["epoch"], len(case.epochs)
    if 1 <= best < last and len(cfg.finetune) == 1 and last - best >= max(2, last // 4):
        yield (f"epochs={best}",), f"ends the schedule at epoch {best}, whose weights were kept"
    yield (), "more training examples"


def _augment(cfg: DictConfig) -> Candidates:
    task = str(cfg.task.get("_target_"))
    if "detection" in task:
        usual, strong = "boxes", "boxes_mosaic"
    elif "segmentation" in task:
        usual, strong = "masks", ""
    else:
        usual, strong = "light", "strong"
    why = "shows each image otherwise in each epoch"
    if not cfg.augment:
        yield (f"augment={strong if strong == 'strong' else usual}",), why
    elif strong and len(cfg.augment) <= 3:
        yield (f"augment={strong}",), f"more than now: {why}"
    if usual == "light":
        yield ("augment=mixup",), "blends images and their labels"


def _more_data(case: Case, cfg: DictConfig) -> Candidates:
    yield (), "more training examples: at this size they do more than any setting"
    if case.modality == "images":
        yield from _augment(cfg)
    if not case.frozen:
        yield ("finetune=linear_probe",), "trains the head alone, which few examples suffice for"
        yield ("finetune=two_phase",), "trains the head first, then all at a tenth of the rate"
    if ((cfg.head or {}).get("dropout") or 0) < 0.3:
        yield ("head.dropout=0.3",), "has the head rely on no single feature"
    if not cfg.task.get("label_smoothing"):
        yield ("task.label_smoothing=0.1",), "keeps the network from being too sure"


def _mend_labels(case: Case, cfg: DictConfig) -> Candidates:
    if names := rules.contradicted(case):
        yield (), f"look at the labels of {', '.join(names[:10])}"
    elif case.modality == "text":
        yield (), "look at the examples with `kerasft show`: is data.label the right column?"
    else:
        yield (), "look at the examples with `kerasft show`: do images have their own labels?"
    yield ("task.label_smoothing=0.1",), "trusts each label a little less"
    if not case.frozen:
        yield ("finetune=linear_probe",), "a head alone learns fewer wrong labels by heart"


def _stop_leak(case: Case, cfg: DictConfig) -> Candidates:
    column = cfg.data.get("text") if case.copies else None
    if column is not None and cfg.data.get("group") is None:
        yield (f"data.group={column}",), "keeps copies of a text in one split"
    yield (), (
        "look at what the network sees (`kerasft show`), for what names the label: a word, a mark "
        "in the corner, an id, the source of an example; and at how the data was split"
    )
    yield ("finetune=linear_probe",), "a head alone shows how much the features say without it"


def _thaw(case: Case, cfg: DictConfig) -> Candidates:
    yield ("finetune=two_phase",), "has the head learn first, then the whole network"
    yield ("finetune=full",), "has the whole network learn from the first step"
    yield ("finetune=gradual",), "has the network learn from the head down"
    if (cfg.head or {}).get("_target_") == "kerasft.model.heads.pooled.linear":
        yield ("head=mlp",), "puts a hidden layer between features and classes"
    yield (), (
        "a backbone that was trained on data more like this: `kerasft models` lists those there are"
    )


def _rests_partly(cfg: DictConfig) -> bool:
    """Whether no stage trains the whole network."""
    return all(node.get("train", "all") != "all" for node in cfg.finetune.values()
               if node is not None and node.get("_target_") == STAGE)  # fmt: skip


def _nothing(case: Case, cfg: DictConfig) -> Candidates:
    yield from ()


_FOR = {
    rules.HIGH: _lower_rate, rules.LOW: _higher_rate, rules.LEAK: _stop_leak,
    rules.LABELS: _mend_labels, rules.OVER: _hold_back, rules.LITTLE: _more_data,
    rules.FROZEN: _thaw, rules.UNDER: _fit_more, rules.WELL: _nothing,
}
