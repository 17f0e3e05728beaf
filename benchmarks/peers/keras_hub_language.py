"""Peer: KerasHub's language model as its guide shows it, `fit` on raw strings.

https://keras.io/keras_hub/getting_started/: `CausalLM.fit(x)`, the preprocessor inside. Documents
end with their token here, as for the others.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    task = json.loads(sys.argv[1])
    import keras
    import keras_hub
    import numpy as np
    from step_clock import StepClock

    keras.utils.set_random_seed(task["seed"])
    with open(task["documents"], encoding="utf-8") as file:
        documents = json.load(file)
    model = keras_hub.models.CausalLM.from_preset(f"{task['pretrained']}/keras_hub_preset")
    model.preprocessor.sequence_length = task["length"]
    model.preprocessor.add_end_token = True
    before = nats(model, task["validation"])
    warmup = int(np.argmax(task["rates"]))
    rate = keras.optimizers.schedules.CosineDecay(
        task["rates"][0], task["steps"] - warmup, warmup_target=task["learning_rate"],
        warmup_steps=warmup,
    )  # fmt: skip
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    clock = StepClock()
    model.fit(documents, batch_size=task["batch_size"], epochs=1, verbose=0, callbacks=[clock])
    ids = model.preprocessor.tokenizer(documents)
    # Their own tokens with one before and one behind them, as far as there is room.
    tokens = np.minimum([len(one) + 2 for one in ids], task["length"]).mean()
    print(json.dumps({
        "marks": clock.marks, "before": before, "after": nats(model, task["validation"]),
        "tokens": float(tokens) * task["batch_size"],
    }))  # fmt: skip


def nats(model, file: str) -> float:
    """Return what a token of the validation texts costs."""
    import numpy as np
    import tensorflow as tf

    with np.load(file) as rows:
        ids, real = rows["ids"].astype("int32"), rows["real"].astype("int32")
        learned = rows["learned"][:, 1:] > 0

    @tf.function
    def each(ids, real):
        logits = model({"token_ids": ids, "padding_mask": real}, training=False)[:, :-1]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits)

    found = [each(ids[i : i + 64], real[i : i + 64]).numpy() for i in range(0, len(ids), 64)]
    return float(np.concatenate(found)[learned].astype("float64").mean())


main()
