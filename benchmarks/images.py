"""Fine-tunes MobileNet on trashnet with kerasft and as Keras' guide does it, one after the other.

    KERASFT_DATA=DIR python benchmarks/images.py probe augmented two_phase

Both get the same images, size, weights, epochs, batch size and learning rates, and compute in
`float32`. Time runs from the start of the process to the end of training; kerasft starts with an
empty cache.

- `probe`: the head alone, without augmentation.
- `augmented`: the head alone, with flips and rotations, of which kerasft keeps 4 variants.
- `two_phase`: the head, then everything, without augmentation.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import zipfile
from pathlib import Path

from race import add_options, kerasft, peer, race

TASKS = {
    "probe": {"epochs": 10, "all_epochs": 0, "augmented": False},
    "augmented": {"epochs": 10, "all_epochs": 0, "augmented": True},
    "two_phase": {"epochs": 10, "all_epochs": 3, "augmented": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=list(TASKS))
    add_options(parser)
    options = parser.parse_args()
    data = Path(os.environ["KERASFT_DATA"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(data / "trashnet" / "trashnet.zip", folder / "images")
        task = {
            "folder": str(folder / "images"), "size": 224, "batch_size": 32, "head_rate": 1e-2,
            "all_rate": 3e-5,
            "weights": str(data / "pretrained/mobilenet_0.75_224/mobilenet_7_5_224_tf_no_top.h5"),
        }  # fmt: skip
        for name in options.tasks:
            race(name, {**task, **TASKS[name]}, {
                "kerasft": lambda t: kerasft(overrides(t), folder),
                "kerasft, second run": lambda t: kerasft(overrides(t), folder, again=True),
                "kerasft, nothing kept": lambda t: kerasft(
                    [*overrides(t), "cache.activations=never"], folder),
                "Keras guide": lambda t: peer(sys.executable, "keras_guide.py", t),
            }, options)  # fmt: skip


def unpack(archive: Path, folder: Path) -> None:
    """Write the images as train, validation and test, 70, 10 and 20 % of each class."""
    with zipfile.ZipFile(archive) as pack:
        names = [n for n in pack.namelist() if n.lower().endswith((".jpg", ".jpeg", ".png"))]
        for kind in sorted({Path(name).parent.name for name in names}):
            own = sorted(name for name in names if Path(name).parent.name == kind)
            random.Random(0).shuffle(own)
            for place, name in enumerate(own):
                share = place / len(own)
                split = "train" if share < 0.7 else "validation" if share < 0.8 else "test"
                target = folder / split / kind / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(pack.read(name))


def overrides(task: dict) -> list[str]:
    chosen = [
        "data=image_folder", f"data.path={task['folder']}", "backbone=applications",
        "backbone.name=MobileNet", "backbone.alpha=0.75", f"backbone.weights={task['weights']}",
        f"backbone.image_size={task['size']}", "backbone.resize=stretch", "head.dropout=0.2",
        "optimizer=adam", "schedule=constant", f"batch_size={task['batch_size']}",
        f"seed={task['seed']}", "finetune=two_phase", f"finetune.head.epochs={task['epochs']}",
        f"finetune.head.learning_rate={task['head_rate']}",
        f"finetune.all.learning_rate={task['all_rate']}",
    ]  # fmt: skip
    if task["all_epochs"]:
        chosen.append(f"epochs={task['all_epochs']}")
    else:
        chosen.append("finetune.all=null")
    if task["augmented"]:
        chosen += [
            "+augment.flip._target_=keras.layers.RandomFlip", "+augment.flip.mode=horizontal",
            "+augment.turn._target_=keras.layers.RandomRotation", "+augment.turn.factor=0.1",
        ]  # fmt: skip
    return chosen


if __name__ == "__main__":
    main()
