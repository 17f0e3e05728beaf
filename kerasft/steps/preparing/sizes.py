"""The model and the data at the image size of each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config.composition import build
from kerasft.config.parameters import define
from kerasft.errors import UserError
from kerasft.spec import Backbone
from kerasft.steps.preparing.batches import make_batches, size_of, training_targets
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.steps.preparing.surgery import with_surgery
from kerasft.system.console import say
from kerasft.training.stages import Stage

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class AtSize:
    """What a stage trains on and through.

    Args:
        model: The graph for its images: the model itself, or the same weights at another size.
        ready: Training and validation data at this size.
        image_size: Rows and columns where they are not the model's own, else `None`.
    """

    model: Any
    ready: Ready
    image_size: tuple[int, int] | None = None

    @property
    def entry(self) -> Callable | None:
        """What the model computes through, see `Assembled.entered`."""
        return None if self.image_size is None else self.model


def of_stages(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, model: keras.Model,
    stages: Mapping[str, Stage],
) -> dict[str, AtSize]:
    """Return model and data at the size of each stage, each size made once.

    All are made before the first step: a size that the network cannot take must not end a run
    after its first stages.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data at the size of the model.
        backbone: The backbone.
        model: The assembled model.
        stages: The stages that are to come, by name.

    Raises:
        UserError: If the network cannot be had at one of the sizes.
    """
    own = size_of(ready.preprocess)
    made: dict[tuple[int, int] | None, AtSize] = {own: AtSize(model, ready)}
    for name, stage in stages.items():
        if (size := stage.size or own) not in made:
            assert size is not None
            made[size] = _at_size(cfg, parts, ready, backbone, model, name, size)
    return {name: made[stage.size or own] for name, stage in stages.items()}


def _at_size(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, model: keras.Model,
    stage: str, size: tuple[int, int],
) -> AtSize:
    from kerasft.data.preprocessing import prepare_splits
    from kerasft.model.resized import resized
    from kerasft.training.randomness import undisturbed

    with undisturbed():  # the weights that are drawn here are not used
        other = _backbone_at(cfg, backbone, stage, size)
        labels = ready.splits.labels
        try:
            graph = resized(model, with_head(cfg, ready.task, labels, other), name=backbone.name)
        except UserError as error:
            raise UserError(f"finetune.{stage}.image_size: {error}") from error
    say(f"stage {stage}: preparing images of {size[0]}x{size[1]} pixels")
    preprocess = other.preprocess
    stores = prepare_splits(
        ready.splits.parts, preprocess, parts.cache, wanted=("train", "validation")
    )
    targets = training_targets(ready.task, ready.splits, preprocess)
    batches = make_batches(
        cfg, stores["train"], targets, ready.batches.order, task=ready.task, labels=labels,
        preprocess=preprocess, texts=(), augment=parts.augment, stages=parts.stages,
    )
    ready = replace(ready, preprocess=preprocess, stores=stores, batches=batches)
    return AtSize(graph, ready, size)


def _backbone_at(
    cfg: DictConfig, backbone: Backbone, stage: str, size: tuple[int, int]
) -> Backbone:
    """Return the backbone of a config for images of another size, with random weights."""
    takes = define(cfg.backbone["_target_"])
    if "image_size" not in takes.parameters and not takes.open:
        raise UserError(
            f"finetune.{stage}.image_size needs a backbone that is made for a size "
            f"(image_size=...), and {cfg.backbone['_target_']} takes no such argument. Leave it "
            "out."
        )
    node = cfg.backbone.copy()
    OmegaConf.set_struct(node, False)
    node.image_size = list(size)
    if "pretrained" in takes.parameters:
        node.pretrained = False
    node._set_parent(cfg)
    try:
        found = build(node)
    except UserError as error:
        raise UserError(
            f"finetune.{stage}.image_size: {backbone.name} cannot be made for images of "
            f"{size[0]}x{size[1]} pixels: {error}"
        ) from error
    if size_of(found.preprocess) != size:
        raise UserError(
            f"finetune.{stage}.image_size: {backbone.name} is made for images of one size. Leave "
            f"it out. Received: {size[0]}x{size[1]}."
        )
    return with_surgery(cfg, found, sized=False, quiet=True)
