"""Peer: the Hugging Face Trainer on tagged words, as its token-classification example has it.

https://github.com/huggingface/transformers/tree/main/examples/pytorch/token-classification: the
first piece of a word has its label, the others and special tokens have -100. Runs in an environment
of its own: PyTorch and TensorFlow in one process disturb each other.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    task = json.loads(sys.argv[1])
    import numpy as np
    import torch
    import transformers

    transformers.set_seed(task["seed"])
    torch.set_num_threads(task["threads"])
    tags = task["tags"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(task["checkpoint"])
    model = transformers.AutoModelForTokenClassification.from_pretrained(
        task["checkpoint"], num_labels=len(tags), id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
    )  # fmt: skip

    class Sentences(torch.utils.data.Dataset):
        def __init__(self, rows: list):
            self.words = [len(words) for words, _ in rows]
            self.made = tokenizer(
                [words for words, _ in rows], truncation=True, is_split_into_words=True
            )
            self.labels, self.places = [], []
            for row, (_, labels) in enumerate(rows):
                pieces, before, given, places = self.made.word_ids(row), None, [], []
                for place, word in enumerate(pieces):
                    first = word is not None and word != before
                    given.append(labels[word] if first else -100)
                    if first:
                        places.append((word, place))
                    before = word
                self.labels.append(given)
                self.places.append(places)

        def __len__(self) -> int:
            return len(self.words)

        def __getitem__(self, index: int) -> dict:
            return {**{k: v[index] for k, v in self.made.items()}, "labels": self.labels[index]}

    data = json.loads(Path(task["data"]).read_text("utf-8"))
    parts = {name: Sentences(rows) for name, rows in data.items()}
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model, train_dataset=parts["train"],
            # What is not named here is the Trainer's default, a rate that falls in a line among it.
            args=transformers.TrainingArguments(
                output_dir=folder, seed=task["seed"], num_train_epochs=task["epochs"],
                learning_rate=task["learning_rate"],
                per_device_train_batch_size=task["batch_size"], use_cpu=True,
                save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            ),
            data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
        )  # fmt: skip
        ready, ready_cpu = time.perf_counter(), time.process_time()
        trainer.train()
        trained, trained_cpu = time.perf_counter(), time.process_time()
        answers = {}
        for name in ("dev", "test"):
            found = np.argmax(trainer.predict(parts[name]).predictions, axis=-1)
            answers[name] = [[0] * words for words in parts[name].words]
            for row, places in enumerate(parts[name].places):
                for word, place in places:
                    answers[name][row][word] = int(found[row, place])
    print(json.dumps({
        "answers": answers, "training": trained - ready,
        "training_processor": trained_cpu - ready_cpu,
    }))  # fmt: skip


main()
