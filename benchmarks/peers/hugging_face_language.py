"""Peer: the Hugging Face Trainer on blocks that were packed before, in their order.

Positions begin anew with each document where documents are kept `apart`: transformers makes the
mask of attention from them. Runs in an environment of its own: PyTorch and TensorFlow in one
process disturb each other.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time


def main() -> None:
    task = json.loads(sys.argv[1])
    import numpy as np
    import torch
    import transformers

    transformers.set_seed(task["seed"])
    torch.set_num_threads(task["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        f"{task['pretrained']}/hf_llama", dtype=torch.float32
    )
    # KerasHub's preset has the output's matrix apart from the embedding.
    model.config.tie_word_embeddings = model.config.use_cache = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with np.load(task["blocks"]) as file:
        ids, real, learned = file["ids"].astype("int64"), file["real"] > 0, file["learned"] > 0
    place = np.arange(ids.shape[1])[None]
    # Padding is one more document, of which nothing is learned.
    begins = (ids == task["start"]) | (real & ~np.pad(real, [(0, 0), (1, 0)])[:, :-1])
    begins |= ~real & np.pad(real, [(0, 0), (1, 0)])[:, :-1]
    positions = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    columns = {
        "input_ids": torch.from_numpy(ids),
        # The first token of a block is predicted by nothing, and so is none that begins a document.
        "labels": torch.from_numpy(np.where(learned & real, ids, -100)),
    }
    if task["apart"]:
        columns["position_ids"] = torch.from_numpy(positions)

    class Blocks(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(ids)

        def __getitem__(self, index: int) -> dict:
            return {name: values[index] for name, values in columns.items()}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *given):
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def create_scheduler(self, num_training_steps, optimizer=None):
            rates = [*task["rates"], task["rates"][-1]]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: rates[min(step, len(rates) - 1)] / task["learning_rate"],
            )
            return self.lr_scheduler

    marks: list[tuple[int, float, float]] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **given):
            marks.append((state.global_step, time.time(), time.process_time()))

    before = nats(model, task["validation"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = InOrder(
            model=model, train_dataset=Blocks(), callbacks=[Clock()],
            args=transformers.TrainingArguments(
                output_dir=folder, seed=task["seed"], max_steps=task["steps"],
                per_device_train_batch_size=task["batch_size"], use_cpu=True,
                learning_rate=task["learning_rate"], weight_decay=0.01, adam_epsilon=1e-7,
                max_grad_norm=1.0, save_strategy="no", logging_strategy="no", report_to=[],
                disable_tqdm=True, dataloader_pin_memory=False,
            ),
        )  # fmt: skip
        trainer.train()
    print(json.dumps({
        "marks": marks, "before": before, "after": nats(model, task["validation"]),
    }))  # fmt: skip


def nats(model, file: str) -> float:
    """Return what a token of the validation texts costs."""
    import numpy as np
    import torch

    with np.load(file) as rows:
        ids, real = torch.from_numpy(rows["ids"].astype("int64")), rows["real"].astype("int64")
        learned = rows["learned"][:, 1:] > 0
    mask, found = torch.from_numpy(real), []
    model.eval()
    with torch.no_grad():
        for i in range(0, len(ids), 64):
            some = ids[i : i + 64]
            logits = model(input_ids=some, attention_mask=mask[i : i + 64]).logits[:, :-1]
            found.append(torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), some[:, 1:], reduction="none"
            ).numpy())  # fmt: skip
    model.train()
    return float(np.concatenate(found)[learned].astype("float64").mean())


main()
