"""Peer: the Hugging Face Trainer, texts padded to the longest of a batch.

Runs in an environment of its own: PyTorch and TensorFlow in one process disturb each other.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

STARTED = time.perf_counter()


def main() -> None:
    task = json.loads(sys.argv[1])
    import numpy as np
    import torch
    import transformers

    transformers.set_seed(task["seed"])
    torch.set_num_threads(task["threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(task["checkpoint"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        task["checkpoint"], num_labels=2
    )
    if task["train_layers"] is not None:
        # The pooler belongs to the head: MiniLM's checkpoint has none that was trained.
        kept = ["pooler"]
        kept += [n.replace("transformer_layer_", "encoder.layer.") for n in task["train_layers"]]
        for name, parameter in model.bert.named_parameters():
            parameter.requires_grad = any(name.startswith(f"{one}.") for one in kept)

    class Texts(torch.utils.data.Dataset):
        def __init__(self, file: str):
            with open(file, encoding="utf-8") as lines:
                pairs = [line.rstrip("\n").split("\t") for line in lines]
            texts = [text for text, _ in pairs]
            self.rows = tokenizer(texts, truncation=True, max_length=task["length"])["input_ids"]
            self.labels = [int(label) for _, label in pairs]

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> dict:
            ids = self.rows[index]
            mask = [1] * len(ids)
            return {"input_ids": ids, "attention_mask": mask, "labels": self.labels[index]}

    parts = {name: Texts(task[name]) for name in ("train", "validation", "test")}

    epochs_ended: list[list[float]] = []

    def accuracy(answer) -> dict:
        found = float(np.mean(np.argmax(answer.predictions, 1) == answer.label_ids))
        epochs_ended.append([time.perf_counter() - STARTED, found])
        return {"accuracy": found}

    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder, num_train_epochs=task["epochs"], seed=task["seed"],
                per_device_train_batch_size=task["batch_size"], per_device_eval_batch_size=64,
                learning_rate=task["learning_rate"], bf16=task["bfloat16"], use_cpu=not task["gpu"],
                eval_strategy="epoch", save_strategy="no", logging_strategy="no", report_to=[],
                disable_tqdm=True,
                **({"train_sampling_strategy": "group_by_length"} if task["grouped"] else {}),
            ),
            train_dataset=parts["train"], eval_dataset=parts["validation"],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy,
        )  # fmt: skip
        ready = time.perf_counter()
        trainer.train()
        trained = time.perf_counter()
        found = trainer.predict(parts["test"]).metrics["test_accuracy"]
    print(json.dumps({
        "total": trained - STARTED, "training": trained - ready, "accuracy": found,
        "epochs_ended": epochs_ended[:-1],
    }))  # fmt: skip


main()
