"""An adapter put on its base anew, as whoever is given it does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from kerasft.config.composition import as_config
from kerasft.data.preprocessing import prepare
from kerasft.exporters.adapter import OnBase
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Evidence, Splits
from kerasft.steps.preparing.heads import with_head
from kerasft.steps.preparing.prepare import load_backbone


def on_base(
    cfg: DictConfig, finetuned: FineTuned, evidence: Evidence, file: Path
) -> OnBase:
    """Load the backbone of a run, put its head and an adapter on it, and answer examples.

    Args:
        cfg: The config of the run.
        finetuned: The run's model, whose task, labels and preprocessing are taken.
        evidence: The examples.
        file: The adapter.
    """
    import keras

    from kerasft.model.adapting import peft_layout
    from kerasft.model.adapting.adapter_file import read_adapter
    from kerasft.model.precision import in_float32

    saved = {"saved": {"_target_": "kerasft.model.adapters.saved", "path": str(file.absolute())}}
    own = cfg.copy()
    own.adapt = as_config(saved)
    splits = Splits(evidence.examples, evidence.examples, None, finetuned.labels)
    # As a run begins: weights that are random come out as they did.
    keras.utils.set_random_seed(cfg.seed % 2**32)
    backbone = load_backbone(own, splits)
    model = in_float32(with_head(own, finetuned.task, finetuned.labels, backbone))
    made = FineTuned(
        model, finetuned.preprocess, finetuned.task, finetuned.labels, finetuned.batch_size
    )
    targets = made.targets(evidence.examples.annotations)
    held = read_adapter(file)
    return OnBase(
        made.measure(prepare(evidence.examples, made.preprocess), targets).rows,
        {"backbone": held.backbone, "base_sha256": held.base,
         "adapt": [{k: v for k, v in one.items() if k != "targets"} for one in held.records],
         "variables": len(held.state), "head_variables": len(held.head)},
        partial(
            peft_layout.write_proved, model=model, base=held.backbone.removeprefix("hf://")
        ),
    )  # fmt: skip
