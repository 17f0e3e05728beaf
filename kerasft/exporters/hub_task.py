"""A KerasHub task with any head; imports Keras and KerasHub alone, and is carried with a preset."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import keras_hub


@keras.saving.register_keras_serializable("kerasft")
class FineTunedTask(keras_hub.models.Task):
    """A backbone of KerasHub with the head that it was fine-tuned with.

    KerasHub's own tasks have heads of their own (BERT's takes the pooled first token, say). This
    one holds a head as a model, and is reloaded with its own class:

        import kerasft_layers, kerasft_task
        task = kerasft_task.FineTunedTask.from_preset(FOLDER)

    Args:
        backbone: A `keras_hub.models.Backbone`.
        head: A functional `keras.Model` from the backbone's features, and from `padding_mask`
            where the backbone takes one, to logits.
        preprocessor: A KerasHub preprocessor, or `None`.
        feature: The key of the features, where the backbone gives a dict.
    """

    def __init__(self, backbone, head, preprocessor=None, feature=None, **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = head
        self.feature = feature
        # A task compiles itself by default; there is nothing to train here until the user says how.
        kwargs.setdefault("compile", False)
        taken = features(backbone, feature)[: len(head.inputs)]
        super().__init__(inputs=backbone.input, outputs=head(taken), **kwargs)

    def get_config(self):
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head, "feature": self.feature}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config["head"], dict):
            config["head"] = keras.saving.deserialize_keras_object(config["head"])
        return super().from_config(config)

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Load a task from a folder that `save_to_preset` wrote."""
        folder = Path(preset)
        config = json.loads((folder / "task.json").read_text("utf-8"))
        config["config"] |= kwargs
        task = keras.saving.deserialize_keras_object(config)
        if task.preprocessor is not None:
            task.preprocessor.load_preset_assets(str(folder))
        if load_weights:
            task.backbone.load_weights(str(folder / "model.weights.h5"))
            task.load_task_weights(str(folder / "task.weights.h5"))
        return task


def features(backbone, feature=None):
    """Return the tensors of a backbone that a head takes: its output, and a mask if it has one."""
    output = backbone.output if feature is None else backbone.output[feature]
    inputs = backbone.input if isinstance(backbone.input, dict) else {}
    return [output, inputs["padding_mask"]] if "padding_mask" in inputs else [output]
