"""Peer: the Hugging Face Trainer with its own defaults, on rows that were split before.

Reads a JSON file of `train`, `validation` and `test`, each rows of text, second text or null, and
label, and prints the figure of both held-out splits. Runs in an environment of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    import numpy as np
    import torch
    import transformers
    from scipy.stats import pearsonr
    from sklearn.metrics import accuracy_score, f1_score

    transformers.set_seed(task["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(task["checkpoint"])
    kinds = {"num_labels": task["classes"] or 1}
    if not task["classes"]:
        kinds["problem_type"] = "regression"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        task["checkpoint"], **kinds
    )

    class Rows(torch.utils.data.Dataset):
        def __init__(self, rows: list):
            first, second, self.labels = zip(*rows, strict=True)
            pairs = (list(first), list(second)) if second[0] is not None else (list(first),)
            self.made = tokenizer(*pairs, truncation=True, max_length=task["length"])

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> dict:
            return {**{k: v[index] for k, v in self.made.items()}, "labels": self.labels[index]}

    parts = {name: Rows(task[name]) for name in ("train", "validation", "test")}
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model, train_dataset=parts["train"],
            # What is not named here is the Trainer's default: three epochs at 5e-5, batches of 8.
            args=transformers.TrainingArguments(
                output_dir=folder, seed=task["seed"], save_strategy="no", logging_strategy="no",
                report_to=[], disable_tqdm=True,
            ),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )  # fmt: skip
        trainer.train()
        found = {}
        for name in ("validation", "test"):
            answers = trainer.predict(parts[name])
            truth, guess = answers.label_ids, answers.predictions
            found[name] = {"pearson": float(pearsonr(guess.ravel(), truth)[0])} if not (
                task["classes"]
            ) else {
                "accuracy": float(accuracy_score(truth, np.argmax(guess, 1))),
                "f1_macro": float(f1_score(truth, np.argmax(guess, 1), average="macro")),
            }  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**found, "processor_seconds": used.ru_utime + used.ru_stime}))


main()
