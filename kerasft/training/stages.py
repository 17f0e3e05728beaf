"""Stages: which variables train, at which rate, for how long."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kerasft.catalogue.stages import train_problem
from kerasft.errors import UserError
from kerasft.training.rates import freeze, rules_problem

if TYPE_CHECKING:
    import keras

# A new head on frozen features bears a larger rate than the network below it.
HEAD_RATE = 1e-3
# The largest side of images, in pixels.
LARGEST = 100_000
# What `layer_decay=auto` comes to. Images won by it, and texts lost (docs/defaults.md).
DECAY_OF_IMAGES, DECAY_OF_TEXTS = 0.8, 1.0


@dataclass(frozen=True)
class Stage:
    """One stage of fine-tuning.

    Args:
        train: `"all"`, `"head"`, a number from 0 to 1 (the head and that share of the backbone's
            layers, counted from the head down), or a list of regular expressions that are searched
            in the variables' paths, e.g. `["transformer_layer_[45]/", "^head_"]`.
        epochs: Passes over the training examples.
        learning_rate: The stage's own peak rate; by default that of the whole run.
        rate: Factor of the whole run's rate, for stages without a rate of their own. That rate is
            `optimizer.learning_rate`, or where that is null the backbone's usual one (1e-3 for a
            stage that trains the head alone).
        batch_norm: `"frozen"` keeps the statistics and scales of the backbone's batch
            normalization, `"train"` lets them learn, `"auto"` keeps them where the backbone is
            pretrained.
        image_size: Height and width in pixels of the images that the stage trains and validates
            on, one number where they are the same; by default `backbone.image_size`, the size of
            the final model, which the last stage must have. Epochs at another size are never the
            best one.
        layer_decay: Factor of the learning rate from each level of the network to the one below,
            above 0 and up to 1. `finetune.full.layer_decay=0.8` has the head learn at the stage's
            rate, the uppermost block at 0.8 of it, the next at 0.64, down to the embeddings or the
            first convolution. Each block is a level; networks of single layers have 12 at most.
            `"auto"` is 0.8 for networks of images, and 1, which is none, for those of texts.
        rates: Factors of the learning rate by regular expressions that are searched in the
            variables' paths, e.g. `'finetune.full.rates={embedding: 0.1, head_: 10}'`; where
            several are found, all count. 0 has a variable rest.
        weight_decays: Factors of `optimizer.weight_decay`, likewise, e.g.
            `finetune.full.weight_decays.head_=0` for none.
        solve: Whether a linear head is not trained step by step but computed: the optimum of its
            loss on the features of the training examples as they are, with the strength of an L2
            penalty that the validation split chooses. It counts as one epoch. `"auto"` leaves the
            stage out where the head or the task has no such optimum, or has it trained where it is
            the only one.

    Example:
        >>> Stage("head", epochs=3).train
        'head'
    """

    train: str | float | list[str] = "all"
    epochs: int = 1
    learning_rate: float | None = None
    rate: float = 1.0
    batch_norm: Literal["auto", "frozen", "train"] = "auto"
    image_size: int | list[int] | None = None
    layer_decay: float | Literal["auto"] = 1.0
    rates: dict[str, float] | None = None
    weight_decays: dict[str, float] | None = None
    solve: bool | Literal["auto"] = False

    def __post_init__(self) -> None:
        if problem := train_problem(self.train):
            raise UserError(problem)
        if self.solve not in (True, False, "auto"):
            raise UserError(
                "finetune.NAME.solve must be true, false or auto, which computes the head where "
                f"that can be done. Received: {self.solve!r}."
            )
        own = self.learning_rate
        if self.epochs < 1 or self.rate <= 0 or (own is not None and own <= 0):
            raise UserError(
                "finetune.NAME.epochs must be at least 1, rate and learning_rate above 0. "
                f"Received: epochs={self.epochs}, rate={self.rate}, learning_rate={own}."
            )
        if problem := size_problem(self.image_size):
            raise UserError(f"finetune.NAME.image_size {problem}")
        several = self.epochs != 1 and self.solve is True
        if self.solve and (self.train not in ("head", 0) or several or self.image_size):
            raise UserError(
                f"finetune.NAME.solve={str(self.solve).lower()} computes the head on the features "
                "of the network as it is: with train=head, no image_size and, where solve=true, "
                "epochs=1. Received: "
                f"train={self.train!r}, epochs={self.epochs}, image_size={self.image_size}."
            )
        decay = self.layer_decay
        if decay != "auto" and (isinstance(decay, str) or not 0 < decay <= 1):
            raise UserError(
                "finetune.NAME.layer_decay is the factor of the learning rate from each level of "
                "the network to the one below: above 0, and up to 1, which has all learn alike, or "
                f"auto. Received: {decay!r}."
            )
        for name, rules in (("rates", self.rates), ("weight_decays", self.weight_decays)):
            if problem := rules_problem(name, rules):
                raise UserError(f"finetune.NAME.{problem}")

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns of the stage's own images, `None` where it has no size of its own."""
        if self.image_size is None:
            return None
        one = self.image_size
        return (one, one) if isinstance(one, int) else (one[0], one[1])

    def on(self, *, text: bool) -> Stage:
        """Return the stage as it is on a network: with a number where `layer_decay` is `"auto"`.

        Args:
            text: Whether the network is for texts; else for images.

        Example:
            >>> Stage(layer_decay="auto").on(text=False).layer_decay
            0.8
        """
        if self.layer_decay != "auto":
            return self
        return replace(self, layer_decay=DECAY_OF_TEXTS if text else DECAY_OF_IMAGES)

    def peak(self, chosen: float | None, usual: float, *, head_alone: bool | None = None) -> float:
        """Return the peak rate of the stage.

        Args:
            chosen: `optimizer.learning_rate`, or `None` where the user sets none.
            usual: The rate that the backbone is usually fine-tuned at as a whole.
            head_alone: Whether the stage trains the head alone; by default as far as `train` tells
                without a network.

        Returns:
            The stage's own rate; without one `rate` times `chosen`; without either `rate` times
            1e-3 for a stage that trains the head alone, else `rate * usual`.

        Example:
            >>> Stage("all", rate=0.5).peak(None, 4e-4), Stage("head").peak(None, 4e-4)
            (0.0002, 0.001)
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if chosen is not None:
            return chosen * self.rate
        if head_alone is None:
            head_alone = self.train in ("head", 0)
        return (HEAD_RATE if head_alone else usual) * self.rate


def size_problem(image_size: object) -> str:
    """Say what is wrong with a stage's `image_size`, `""` where nothing is.

    Example:
        >>> size_problem([256, 320]), size_problem(0)[:45]
        ('', 'must be a number of pixels, or two: [height,w')
    """
    given = list(image_size) if isinstance(image_size, list | tuple) else [image_size] * 2
    if image_size is None or (
        len(given) == 2 and all(type(side) is int and 0 < side <= LARGEST for side in given)
    ):
        return ""
    return (
        f"must be a number of pixels, or two: [height,width], each from 1 to {LARGEST:,}. "
        f"Received: {image_size!r}."
    )


def require_sizes(stages: Mapping[str, Stage], final: tuple[int, int] | None) -> None:
    """See that images of the stages' sizes can be had, and that the last one has the model's.

    Args:
        stages: Stages by name, in order.
        final: The size of the model that comes out; `None` where it takes no images.

    Raises:
        UserError: If not.

    Example:
        >>> require_sizes({"small": Stage(image_size=96), "large": Stage()}, (128, 128))
    """
    own = {name: stage.size for name, stage in stages.items() if stage.size is not None}
    if not own:
        return
    if final is None:
        raise UserError(
            f"finetune.{next(iter(own))}.image_size is the size of images, but the data is text. "
            "Leave it out."
        )
    last = list(stages)[-1]
    if own.get(last, final) != final:
        (rows, columns), has = own[last], "x".join(map(str, final))
        raise UserError(
            f"finetune.{last}.image_size: the last stage trains at the size of the model that is "
            f"measured and exported, backbone.image_size, which is {has}. Received: "
            f"{rows}x{columns}. Set backbone.image_size=[{rows},{columns}] and leave this one out; "
            "earlier stages may have other sizes."
        )


def select(model: keras.Model, stage: Stage, *, pretrained: bool) -> list[str]:
    """Make exactly the stage's variables trainable.

    Flags are set on each variable: a flag on a layer that is already set reaches nobody below it.

    Args:
        model: The assembled model.
        stage: The stage.
        pretrained: Whether the backbone's weights are worth keeping.

    Returns:
        The paths of the variables that train.

    Raises:
        UserError: If none would.
    """
    import keras

    layers = list(model._flatten_layers(include_self=True))
    adaptation = getattr(model, "adaptation", None)
    for layer in layers:
        layer.trainable = False
    for layer in layers:
        layer.trainable = True
    wanted, allowed = _wanted(model, stage.train), _allowed(model)
    if adaptation is not None and isinstance(stage.train, list):
        free = [variable.path for variable in model.variables if allowed(variable)]
        for pattern in stage.train:
            if not any(re.search(pattern, path) for path in free):
                raise UserError(
                    f"finetune.NAME.train: with {adaptation.names} only the head and the adapters "
                    f"train, and {pattern!r} matches none of them. Their paths are, for instance, "
                    f"{', '.join(dict.fromkeys([free[0], free[len(free) // 2], free[-1]]))}."
                )
    for variable in model.variables:
        if variable.trainable and not (allowed(variable) and wanted(variable)):
            variable.trainable = False
    freeze(model, stage)
    of_head = {id(part) for part in getattr(model, "head_parts", ())}  # no other model has any
    for layer in layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        is_head = id(layer) in of_head
        trains = any(v.trainable for v in layer.variables)
        # An adapter of norms is there to have them learn.
        adapted = adaptation is not None and any(map(adaptation.trains, layer.variables))
        keep = stage.batch_norm == "frozen" or (
            stage.batch_norm == "auto" and pretrained and not adapted
        )
        # A frozen layer also runs on its fixed statistics, which is the point.
        if not trains or (keep and not is_head):
            layer.trainable = False
    paths = [variable.path for variable in model.trainable_variables]
    if not paths:
        if stage.train == "head":
            raise UserError(
                "finetune.NAME.train=head leaves nothing to train: this head has no weights of its "
                "own, it shares those of the backbone. Name what trains by its path, or train all."
            )
        if adaptation is not None:
            raise UserError(
                f"finetune.NAME.train={stage.train} leaves nothing to train: with "
                f"{adaptation.names} only the head and the adapters do. Name these, or train all."
            )
        found = sorted({v.path.split("/")[0] for v in model.variables})
        raise UserError(
            f"finetune.NAME.train={stage.train} matches no variable that can train. The paths "
            f"begin with: {', '.join(found)}."
        )
    return paths


def head_variables(model: keras.Model) -> set[int]:
    """Return the ids of the variables that belong to the head alone."""
    return {id(v) for layer in getattr(model, "head_layers", ()) for v in layer.variables}


def _allowed(model: keras.Model) -> Callable[[Any], bool]:
    """Return what tells of a variable whether any stage may train it: see `conf/adapt`."""
    adaptation = getattr(model, "adaptation", None)
    if adaptation is None:
        return lambda variable: True
    own = head_variables(model)
    return lambda variable: id(variable) in own or adaptation.trains(variable)


def is_head_alone(model: keras.Model) -> bool:
    """Whether the variables that train are all of the head.

    Args:
        model: The assembled model, with its variables selected.
    """
    own = head_variables(model)
    return all(id(variable) in own for variable in model.trainable_variables)


def _wanted(model: keras.Model, train: str | float | list[str]) -> Callable[[Any], bool]:
    """Return what tells of a variable whether it trains."""
    if isinstance(train, list):
        return lambda variable: any(re.search(p, variable.path) for p in train)
    if train == "all":
        return lambda variable: True
    own = head_variables(model)
    if train == "head":
        return lambda variable: id(variable) in own
    # A model's variables come in the order of its layers, from the input on.
    parts = list(dict.fromkeys(
        variable.path.split("/")[0] for variable in model.trainable_variables
        if id(variable) not in own
    ))  # fmt: skip
    kept = set(parts[len(parts) - round(float(train) * len(parts)):])
    return lambda variable: id(variable) in own or variable.path.split("/")[0] in kept
