"""Configs that cannot be meant: told before anything is read, and nothing is made."""

from __future__ import annotations

import pytest

# name: (command, what the message says)
ONE_MISTAKE = {
    "a typo in a key": ("train epoch=3", "no key 'epoch'", "Did you mean 'epochs'?"),
    "a typo in a key below": ("train head=mlp head.widht=3", "head.widht", "Did you mean 'width'?"),
    "a typo in a group": ("train optimiser=adam", "'optimiser'", "Did you mean 'optimizer'?"),
    "a typo in a choice": ("train head=mpl", "linear, mlp", "Did you mean 'mlp'?"),
    "a key that is forced in": ("train ++epoch=3", "no key 'epoch'", "Did you mean 'epochs'?"),
    "a key that is removed": ("train ~epochs", "epochs cannot be taken out"),
    "a step that is not there removed": ("train ~augment.flop", "augment.flop"),
    "a group removed": ("train ~head", "head must be chosen. Allowed: anchor_free, decoder"),
    "no stage left": ("train ~finetune.full", "finetune needs a stage", "two_phase"),
    "a word for a number": ("train epochs=three", "epochs must be a whole number", "'three'"),
    "a fraction for a count": ("train epochs=2.5", "epochs must be a whole number", "'2.5'"),
    "null for a count": ("train batch_size=null", "batch_size must have a value"),
    "a list for a count": ("train epochs=[1,2]", "epochs", "[1,2]"),
    "a mapping for a count": ("train epochs={a:1}", "epochs", "{a:1}"),
    "several values without -m": ("train epochs=1,2", "epochs takes one value", "kerasft train -m"),
    "a yes that is no truth value": ("train progress=maybe", "progress must be true or false"),
    "no epoch": ("train epochs=0", "epochs must be at least 1", "Received: 0"),
    "negative epochs": ("train epochs=-3", "epochs must be at least 1", "Received: -3"),
    "no example in a batch": ("train batch_size=0", "batch_size must be at least 1"),
    "a word for a batch": ("train batch_size=all", "a whole number of examples, or auto", "'all'"),
    "a whole without auto": (
        "train batch_size=8 effective_batch=64", "effective_batch", "Set batch_size=auto"),
    "no memory": ("train batch_size=auto memory_gb=0", "memory_gb must be above 0"),
    "an endless epoch count": ("train epochs=inf", "epochs must be a whole number"),
    "a negative seed": ("train seed=-1", "seed must not be negative"),
    "a rate of zero": ("train optimizer.learning_rate=0", "learning_rate must be a number above 0"),
    "a part of the data that is nan": (
        "train data=table data.path=t.csv data.text=a data.label=b data.test=nan",
        "data.test must be a number"),
    "a negative rate": ("train optimizer.learning_rate=-1", "learning_rate must be a number above"),
    "a rate that is nan": ("train optimizer.learning_rate=nan", "optimizer.learning_rate", "nan"),
    "an infinite rate": ("train optimizer.learning_rate=inf", "optimizer.learning_rate", "inf"),
    "a word for a rate": ("train optimizer.learning_rate=fast", "a number above 0", "'fast'"),
    "a word for a decay": ("train optimizer.weight_decay=much", "optimizer.weight_decay", "'much'"),
    "no time at all": ("train max_time=0", "max_time", "above 0"),
    "negative time": ("train max_time=-1", "max_time", "above 0"),
    "time that is nan": ("train max_time=nan", "max_time", "nan"),
    "a precision that is none": ("train precision=float31", "Did you mean 'float32'?"),
    "a baseline that is none": ("train baseline=random", "baseline must be null or 'scratch'"),
    "a floor that is none": ("train floor=random", "floor must be one of auto, always, none"),
    "a name that leads out": ("train name=../up", "name becomes a folder's name"),
    "resume without a folder": ("train resume=auto", "set output_dir"),
    "resume that is none": (
        "train resume=yes output_dir=o", "resume must be null, 'auto' or 'accept'",
    ),
    "another way to go on": (
        "train +callbacks.backup._target_=keras.callbacks.BackupAndRestore "
        "+callbacks.backup.backup_dir=backup", "~callbacks.backup", "kerasft resume",
    ),
    "grouping without tokens": ("train batch_tokens=64 length_grouping=false", "batch_tokens"),
    "a sample of less than none": ("train training_sample=-1", "training_sample is how many"),
    "a goal of an export without its share": (
        "train export=saved_model export.saved_model.goal=recall", "needs a share", "at_least=0.9"),
    "fewer golden requests than none": (
        "train export=saved_model export.saved_model.golden=-1", "golden must be at least 0"),
    "null for a count of an export": (
        "train export=saved_model export.saved_model.golden=null", "golden must be a whole number"),
    "a word in a list of counts": (
        "train export=saved_model export.saved_model.warm_up=[x]", "warm_up", "whole number"),
    "an opset that is none": (
        "train export=onnx export.onnx.opset=99", "opset must be from 13 to 18", "99"),
    "a signature with a typo": (
        "train export=saved_model export.saved_model.signatures=[embd]", "Did you mean 'embed'?"),
    "a class that weighs a word": (
        "train task.class_weight={1:heavy}", "class_weight must hold a number", "heavy"),
    "what must be given": ("train data=image_folder", "data.path has no value", "data.path=..."),
    "a preset with a typo": ("train backbone.preset=bert_tiny_en_uncase",
                             "Did you mean 'bert_tiny_en_uncased'?"),
    "an application with a typo": ("train backbone=applications backbone.name=Mobilenet2",
                                   "backbone.name", "Did you mean 'MobileNetV2'?"),
    "a call that is refused": ("train callbacks.x._target_=os.system", "os.system", "is refused"),
    "a call that runs code": ("train +augment.x._target_=keras.layers.Lambda",
                              "keras.layers.Lambda", "refused"),
    "a call that is not there": ("train optimizer._target_=keras.optimizers.Adamw",
                                 "Did you mean 'AdamW'?"),
    "a call inside of a call": ("train head=mlp head.activation._target_=os.system",
                                "head.activation._target_", "'os.system'"),
    "a part that is never made": ("train ++optimizer._partial_=true", "optimizer._partial_"),
    "a reference to nothing": ("train data=image_folder data.path=${nowhere}", "nowhere"),
    "references in a circle": ("train name=${name}", "name: Recursive"),
    "a variable that is not set": ("train data=image_folder data.path=${oc.env:NOT_SET_HERE}",
                                   "NOT_SET_HERE"),
    "a resolver that is none": ("train name=${shell:ls}", "shell"),
    "no equals sign": ("train epochs", "An override must read key=value", "Received: epochs"),
    "no key": ("train =3", "An override must read key=value"),
    "an open quote": ("""train "head.dropout='0" """, "An override must read key=value"),
    "an open bracket": ("train epochs=[1", "An override must read key=value"),
    "settings of Hydra": ("train hydra.run.dir=x", "Settings of Hydra itself", "output_dir=DIR"),
    "an option that is none": ("train --epochs 3", "unknown option --epochs"),
    "a grid of one wrong value": ("train -m head=linear,mpl", "Did you mean 'mlp'?"),
    "a grid of one wrong number": ("train -m epochs=1,none", "epochs"),
    "a grid over an interval": ("train -m seed=interval(0,3)", "A grid cannot try an interval"),
    "a grid without an end": (
        "train -m seed=range(0,100) epochs=range(1,51)", "5,000 runs; at most 1,000"),
    "a range without an end": ("train -m seed=range(0,5000)", "5,000 values, and at most 1,000"),
    "a grid that goes on": ("train -m resume=auto output_dir=o", "cannot be joined with -m"),
    "a grid of a plan": ("train -m --plan", "cannot be joined with -m"),
    "JSON of no plan": ("train --json", "add --plan"),
    "a run that is not there": ("train --from nowhere", "no run folder"),
    "a folder that is no run": ("train --from cache", "no run folder", "config.yaml"),
    "configs that are not there": ("train --config-dir nowhere", "'nowhere', which is no folder"),
    "a check": ("check head.dropout=2x", "head.dropout must be a number"),
    "an explanation of nothing": ("explain hed", "Did you mean 'head'?"),
    "dropout of more than all": ("train head.dropout=1.5", "dropout", "1.5"),
    "negative dropout": ("train head.dropout=-0.1", "dropout", "-0.1"),
    "a head without width": ("train head=mlp head.width=0", "head.width"),
    "images of no size": ("train backbone=tiny_resnet backbone.image_size=0",
                            "backbone.image_size must be at least 1"),
    "texts of no length": ("train backbone=tiny_bert backbone.sequence_length=-1",
                           "backbone.sequence_length must be at least 1"),
    "a word for patience": ("train callbacks.early_stopping.patience=soon",
                          "callbacks.early_stopping.patience"),
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_one_mistake_gets_one_message(name, refuses):
    command, *said = ONE_MISTAKE[name]
    refuses(command, *said)


def test_references_in_a_wide_circle(refuses):
    refuses(
        "train optimizer.weight_decay=${head.dropout} head.dropout=${optimizer.weight_decay}",
        "optimizer.weight_decay: Recursive", "head.dropout: Recursive", problems=2,
    )


def test_several_mistakes_are_told_at_once(refuses):
    refuses("train epoch=3 head=mpl precision=float31", "'epoch'", "=mpl", "'float31'", problems=3)


# What stands in a folder of configs of the user's own: (file, content, command, said)
MINE = {
    "a tab in YAML": ("head/a.yaml", "_target_: x\n\tdepth: 1\n", "head=a", "a.yaml, line 2"),
    "a colon too many": ("head/a.yaml", "_target_: x: y\n", "head=a", "a.yaml, line 1"),
    "a list for a mapping": ("head/a.yaml", "- 1\n- 2\n", "head=a", "head/a.yaml"),
    "a word for a mapping": ("head/a.yaml", "hello\n", "head=a", "head/a.yaml"),
    "an empty file": ("head/a.yaml", "", "head=a", "head must be chosen"),
    "a key twice": ("head/a.yaml", "_target_: x\ndepth: 1\ndepth: 2\n", "head=a",
                    "a.yaml, line 3", "depth"),
    "UTF-16": ("head/a.yaml", "_target_: x\n".encode("utf-16"), "head=a", "a.yaml"),
    "Latin-1": ("head/a.yaml", b"# caf\xe9\n_target_: x\n", "head=a", "UTF-8"),
    "a NUL in YAML": ("head/a.yaml", b"_target_: x\0y\n", "head=a", "a.yaml"),
    "a Python object": ("head/a.yaml", "_target_: !!python/object/apply:os.system ['x']\n",
                        "head=a", "a.yaml"),
    "a typo in an experiment": ("experiment/a.yaml", "# @package _global_\nepoch: 3\n",
                                "experiment=a", "'epoch'", "Did you mean 'epochs'?", "a.yaml"),
    "an experiment of a part that is none": (
        "experiment/a.yaml", "# @package _global_\ndefaults:\n  - override /head: mpl\n",
        "experiment=a", "no config named 'head/mpl'", "Did you mean 'mlp'?", "experiment/a.yaml"),
    "an experiment that calls itself": (
        "experiment/a.yaml", "# @package _global_\ndefaults:\n  - a\n", "experiment=a",
        "experiment/a.yaml lead back"),
    "an untrusted call": ("head/a.yaml", "_target_: subprocess.run\n", "head=a", "subprocess.run"),
    "a billion laughs": (
        "head/a.yaml",
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh",
                                                                       strict=True)
        ), "head=a", "a.yaml"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", MINE)
def test_a_config_of_ones_own(name, put, refuses):
    file, content, command, *said = MINE[name]
    put({f"mine/{file}": content})
    refuses(f"train --config-dir mine {command}", *said)


# --- where the run shall lie -----------------------------------------------------------------


def test_a_folder_that_holds_something(put, refuses):
    put({"here/thesis.txt": "years of work"})
    refuses("train output_dir=here", "new or empty folder", "'here'", "thesis.txt")


def test_a_folder_that_is_a_file(put, refuses):
    put({"here": "a file"})
    refuses("train output_dir=here", "output_dir", "'here'")


def test_a_folder_below_a_file(put, refuses):
    put({"here": "a file"})
    refuses("train output_dir=here/run", "output_dir", "'here/run'")


def test_a_folder_with_a_nul(refuses):
    refuses(["train", "output_dir=a\0b"], "output_dir")


def test_a_folder_whose_name_is_too_long(refuses):
    refuses(f"train output_dir={'x' * 300}", "output_dir", "too long")


def test_a_name_that_is_too_long(refuses):
    refuses(f"train name={'x' * 300}", "name", "at most 100")


def test_a_grid_into_a_folder_that_holds_something(put, refuses):
    put({"here/thesis.txt": "years of work"})
    refuses("train -m seed=0,1 output_dir=here", "new or empty folder", "thesis.txt")
