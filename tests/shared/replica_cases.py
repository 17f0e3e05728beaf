# ruff: noqa: E402
"""Trains small networks on one device and on two, and prints what came out, as JSON.

`python replica_cases.py [--as-traced] FOLDER CASE ...`: a process of its own, since a processor is
parted into two devices before TensorFlow does anything. `--as-traced` runs graphs without
TensorFlow's optimizer of graphs, as the default tests do: it takes longer than such small graphs.
"""

import json
import sys
import time
from pathlib import Path

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

import numpy as np
from traced_runs import CASES, WITH_DROPOUT, make_data, trained


def main(folder, names):
    """Print for each case how far both runs are apart."""
    import os

    os.chdir(folder)
    names = names or list(CASES)
    make_data(names)
    found = {}
    for name in names:
        began = time.perf_counter()
        try:
            words = [*CASES[name], "epochs=2", "optimizer.learning_rate=1e-3"]
            two = trained(name, [*words, "distribute=mirrored"])
            if name in WITH_DROPOUT:  # other masks, other losses
                found[name] = {"masks": two["masks"], "steps": len(two["losses"])}
                continue
            one = trained(name, words)
            found[name] = {
                "steps": len(one["losses"]), "same_count": len(one["losses"]) == len(two["losses"]),
                "loss": max(abs(a - b) / abs(a)
                            for a, b in zip(one["losses"], two["losses"], strict=True)),
                "val_loss": max(abs(a["val_loss"] - b["val_loss"]) / abs(a["val_loss"])
                                for a, b in zip(one["rows"], two["rows"], strict=True)),
                "val": max(
                    abs(a[key] - b[key]) for a, b in zip(one["rows"], two["rows"], strict=True)
                    for key in a if key.startswith("val_") and key != "val_loss"
                ),
                "weights": max(float(np.max(np.abs(np.array(a) - np.array(b)), initial=0.0))
                               for a, b in zip(one["weights"], two["weights"], strict=True)),
                "moved": len(set(one["losses"])) > 1,
            }  # fmt: skip
        except BaseException as error:
            import traceback

            found[name] = {"error": traceback.format_exc()[-3000:], "kind": type(error).__name__}
        finally:
            found[name]["seconds"] = round(time.perf_counter() - began, 1)
            print(name, found[name], file=sys.stderr, flush=True)
    Path("found.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[0] == "--as-traced":
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        del given[0]
    main(given[0], given[1:])
