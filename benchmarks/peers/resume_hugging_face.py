"""A training that can be killed at any time, as the Hugging Face Trainer's documentation has it.

    python benchmarks/peers/resume_hugging_face.py FOLDER

A checkpoint every 10 steps; run again on the same folder, it goes on from the last one. The outcome
is written to FOLDER/outcome.json at the end. Digits as images through a small network with
dropout, random shifts in the data set, early stopping; full determinism is on, and the callbacks'
state is restored, which is off by default.
"""

from __future__ import annotations

# ruff: noqa: E402 - the clock starts before the imports
import hashlib
import json
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()

import numpy as np
import torch
import transformers
from sklearn.datasets import load_digits
from transformers.trainer_utils import get_last_checkpoint


class Images(torch.utils.data.Dataset):
    """Digits, shifted by up to a pixel where they are for training."""

    def __init__(self, images, labels, *, shifts):
        self.images, self.labels, self.shifts = images, labels, shifts

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.shifts:
            down, right = (int(torch.randint(-1, 2, ())) for _ in range(2))
            image = torch.roll(image, (down, right), (1, 2))
        return {"pixel_values": image, "labels": self.labels[index]}


class FirstStep(transformers.TrainerCallback):
    began = BEGAN

    def on_step_end(self, args, state, control, **more):
        if self.began is not None:
            print(f"first step after {time.perf_counter() - self.began:.1f} s", flush=True)
            self.began = None


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Flatten(),
            torch.nn.Dropout(0.3), torch.nn.Linear(32 * 36, 10),
        )  # fmt: skip

    def forward(self, pixel_values, labels):
        logits = self.layers(pixel_values)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    transformers.enable_full_determinism(0)
    transformers.logging.set_verbosity_error()
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    model = Network()
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            str(folder / "run"), num_train_epochs=8, per_device_train_batch_size=16,
            learning_rate=1e-3, save_steps=10, save_total_limit=3, eval_strategy="epoch",
            logging_strategy="epoch", seed=0, data_seed=0, full_determinism=True, use_cpu=True,
            report_to="none", disable_tqdm=True, metric_for_best_model="eval_loss",
            greater_is_better=False, restore_callback_states_from_checkpoint=True,
        ),
        train_dataset=Images(images[:1000], labels[:1000], shifts=True),
        eval_dataset=Images(images[1000:1400], labels[1000:1400], shifts=False),
        callbacks=[transformers.EarlyStoppingCallback(3), FirstStep()],
    )  # fmt: skip
    last = get_last_checkpoint(folder / "run") if (folder / "run").is_dir() else None
    print("going on from", last, flush=True)
    trainer.train(resume_from_checkpoint=last)
    weights = b"".join(np.asarray(v.detach()).tobytes() for v in model.state_dict().values())
    log = [
        [row["epoch"], row.get("loss"), row.get("eval_loss")] for row in trainer.state.log_history
        if "loss" in row or "eval_loss" in row
    ]  # fmt: skip
    (folder / "outcome.json").write_text(json.dumps(
        {"weights": hashlib.sha256(weights).hexdigest(), "log": log, "last": log[-1]}
    ))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
