"""Trains small networks with figures of each step, for tests that compare devices.

Whatever TensorFlow is to have for devices must be set before this is imported.
"""

import csv
import json
import sys
from pathlib import Path

import keras
import numpy as np

from kerasft.config.checks import settle
from kerasft.steps.fitting import activations, fit
from kerasft.steps.preparing import devices, prepare
from kerasft.steps.preparing.heads import with_head
from kerasft.training import epochs

TEXTS = ["data=table", "data.path=texts.csv", "data.text=text", "data.label=label",
         "backbone=tiny_bert", "finetune=full"]  # fmt: skip
IMAGES = ["data=digits", "backbone=tiny_resnet", "augment=light", "batch_size=16", "max_steps=3",
          "finetune=full"]  # fmt: skip
CASES = {
    "plain": [*TEXTS],
    "odd": [*TEXTS, "batch_size=13"],
    "clipped": [*TEXTS, "optimizer.global_clipnorm=0.05", "batch_size=13"],
    "ema": [*TEXTS, "average=ema"],
    "float16": [*TEXTS, "precision=mixed_float16"],
    "bfloat16": [*TEXTS, "precision=mixed_bfloat16"],
    "batch_tokens": [*TEXTS, "batch_tokens=128"],
    "l2": [*TEXTS, "regularize=l2"],
    "class_weights": [*TEXTS, "task.class_weight=balanced", "batch_size=13"],
    "accumulated": [*TEXTS, "+optimizer.gradient_accumulation_steps=2", "batch_size=5",
                    "backbone.layers=1"],
    "unfused": [*TEXTS, "optimizer=sgd", "fast=false"],
    "kept": [*TEXTS, "finetune=linear_probe", "cache.activations=always"],
    "several_at_once": [
        *TEXTS, "finetune=linear_probe", "cache.activations=always", "batch_size=7",
    ],
    "rates": [*TEXTS, "+finetune.full.layer_decay=0.8"],
    "r_drop": [*TEXTS, "regularize=r_drop", "head.dropout=0.1", "batch_size=13"],
    "norms": [*IMAGES, "+finetune.full.batch_norm=train"],
    "augmented": [*IMAGES],
    "mixup": [*IMAGES, "augment=mixup"],
    "one_left": [*TEXTS, "batch_size=19"],
    "dice": [*TEXTS, "task.loss=dice", "batch_size=13"],  # of a whole batch
    "words": [
        "task=tagging", "data=conll", "data.path=words", "backbone=tiny_bert", "head=tokens",
        "batch_size=7", "max_steps=6", "finetune=full",
    ],
    "pixels": [
        "task=segmentation", "data=mask_folder", "data.path=pixels", "head=decoder",
        "data.classes={0:background,1:red,2:green}", "data.ignore=9", "backbone=tiny_resnet",
        "backbone.image_size=[32,48]", "head.width=16", "augment=masks", "batch_size=5",
        "max_steps=3", "finetune=full",
    ],
    "boxes": [
        "task=detection", "data=coco", "data.path=boxes", "backbone=tiny_resnet",
        "backbone.image_size=[64,80]", "head=anchor_free", "head.width=16", "head.depth=1",
        "+head.finest=2", "+head.coarsest=3", "augment=boxes", "batch_size=7", "max_steps=3",
        "finetune=full",
    ],
    "language": [
        "task=causal_lm", "head=language", "data=chat", "data.path=chat.jsonl", "data.prompt=q",
        "data.answer=a", "template=alpaca", "task.template.begin='{start}'", "backbone=tiny_gpt2",
        "backbone.sequence_length=96", "batch_size=7", "max_steps=3", "finetune=full",
    ],
    "penalized": [*TEXTS, "batch_size=13"],  # by a layer's mean over examples
    "penalized_one_left": [*TEXTS, "batch_size=19"],
    "dropout": [*TEXTS],
    "activity": [*TEXTS],  # refused
}
WITH_DROPOUT = ("dropout",)
# Steps in an execution; else one, so that the loss of each can be seen.
AT_ONCE = {"several_at_once": 2}


class Trace(keras.callbacks.Callback):
    """Notes the loss of each step by itself."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def penalize(layer):
    """Have a layer add the mean square of what comes in to the loss."""
    call = layer.call

    def penalized(x, *given, **more):
        layer.add_loss(0.1 * keras.ops.mean(x**2))
        return call(x, *given, **more)

    layer.call = penalized


def trained(name, words):
    """Return the losses of all steps, the figures of the epochs, and the weights."""
    cfg = settle([*words, "callbacks=none", "checkpoint=none", "cache.directory=cache"], (), ())
    activations.AT_ONCE = AT_ONCE.get(name, 1)
    trace, run = Trace(), epochs.run

    def traced(model, data, callbacks, **settings):
        run(model, data, [*callbacks, trace], **settings)

    def without_dropout(*given):
        model = with_head(*given)
        for layer in model._flatten_layers():
            if name not in WITH_DROPOUT and isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        if name == "activity":
            model.layers[-1].activity_regularizer = keras.regularizers.L2(0.1)
        if name.startswith("penalized"):
            penalize(model.layers[-1])
        return model

    epochs.run, fit.with_head = traced, without_dropout
    with devices.forming(cfg), prepare.runtime(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        ready = prepare.make_ready(cfg, parts, splits, backbone)
        model, history = fit.fit(cfg, parts, ready, backbone, None, quiet=True)
        masks = []
        if name in WITH_DROPOUT and cfg.distribute:
            masks = masks_of(model)
        weights = [np.asarray(w, "float64").tolist() for w in model.get_weights()]
    epochs.run, fit.with_head = run, with_head
    keras.utils.clear_session()
    return {"losses": trace.losses, "rows": history.rows, "weights": weights, "masks": masks}


def make_data(names):
    """Write the data of cases, and that which some have of their own."""
    with open("texts.csv", "w", newline="", encoding="utf-8") as file:
        words = [("good", "pos"), ("fine", "pos"), ("bad", "neg"), ("dull", "neg")]
        rows = [(f"a {'very ' * (i % 7)}{w} film, number {i}", k) for i in range(16)
                for w, k in words]  # fmt: skip
        csv.writer(file).writerows([("text", "label"), *rows[:-9]])
    sys.path.append(str(Path(__file__).parents[1]))
    splits = {"train": 24, "val": 6, "test": 6}
    if "words" in names:
        from test_tagging import write

        Path("words").mkdir()
        for seed, split in enumerate(("train", "dev", "test")):
            write(Path("words") / f"{split}.conll", 24, seed)
    if "language" in names:
        said = ("the quick fox", "a lazy dog", "the good film and what is more")
        rows = [{"q": f"say {said[i % 3]} {i}", "a": said[i % 3]} for i in range(80)]
        Path("chat.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    if "pixels" in names:
        import masked_rectangles

        for seed, (split, count) in enumerate(splits.items()):
            masked_rectangles.draw(Path("pixels") / split, count, seed)
    if "boxes" in names:
        import rectangles

        for seed, (split, count) in enumerate({**splits, "val": 18}.items()):  # several batches
            name = {"val": "valid"}.get(split, split)
            rectangles.draw(Path("boxes"), name, count, seed)


def masks_of(model):
    """Return the seeds of both replicas."""
    from kerasft.distributed.group import current

    return [
        [np.asarray(copy).tolist() for copy in
         current().strategy.experimental_local_results(variable.value)]
        for variable in model.variables if "seed" in variable.path.split("/")[-1]
    ]
