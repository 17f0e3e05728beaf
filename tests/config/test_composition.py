"""Composing and checking configs: what is allowed passes, and every mistake is told at once."""

from __future__ import annotations

import shutil
import textwrap

import pytest
from omegaconf import OmegaConf

import kerasft
from kerasft.config import composition, schema
from kerasft.config.checks import check, settle
from kerasft.config.diff import differences
from kerasft.config.parameters import define
from kerasft.config.targets import REFUSED, TRUSTED, parts, walk
from kerasft.errors import UserError, nearest

CHOICES = [(group, name) for group in composition.groups() for name in composition.options(group)]
EXPERIMENTS = composition.options("experiment")
# What a choice needs on top before it is whole.
NEEDED = {
    ("data", "image_folder"): ["data.path=photos"],
    ("data", "table"): ["data.path=a.csv", "data.label=b", "data.text=c"],
    **{("data", name): ["data.path=a"]
       for name in ("boxes_csv", "coco", "conll", "mask_folder", "masks_table", "spans", "voc",
                    "yolo")},
    ("data", "lines"): ["data.path=a.txt"],
    ("data", "text_files"): ["data.path=a.txt", "task=causal_lm", "head=language"],
    ("data", "chat"): ["data.path=a.jsonl", "data.messages=b", "task=causal_lm", "head=language"],
    **{("template", name): ["task=causal_lm", "head=language", "data=chat", "data.path=a",
                            "data.messages=b"]
       for name in ("plain", "alpaca", "chatml", "gemma", "llama3", "zephyr")},
    ("data", "tfds"): ["data.name=beans"],
    ("data", "tfrecord"): ["data.path=shards", "data.label=b"],
    ("adapt", "saved"): ["adapt.saved.path=adapter.safetensors"],
    ("backbone", "applications"): ["backbone.name=MobileNetV2"],
    ("backbone", "keras_file"): ["backbone.path=a.keras"],
    ("surgery", "cut"): ["surgery.cut.layer=a"],
    ("surgery", "remove"): ["surgery.remove.layers=a"],
    ("surgery", "insert_after"): ["surgery.insert_after.after=a"],
    ("surgery", "input_channels"): ["surgery.input_channels.channels=1"],
    ("surgery", "image_size"): ["surgery.image_size.size=96"],
}


def problems(*overrides, config_dirs=(), trusted=()):
    with pytest.raises(UserError) as caught:
        settle(list(overrides), [str(d) for d in config_dirs], trusted)
    return list(caught.value.problems)


def problem(*overrides, **settings):
    found = problems(*overrides, **settings)
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def mine(tmp_path):
    """Return a function that writes a config into a folder of the user's own."""

    def write(name, text):
        file = tmp_path / "mine" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return tmp_path / "mine"

    return write


# --- what is shipped ---------------------------------------------------------------------------


def test_there_are_choices():
    assert len(CHOICES) > 30
    assert set(schema.RUNTIME) < {group for group, _ in CHOICES}
    assert len(EXPERIMENTS) >= 9


@pytest.mark.every(6)
@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{g}={n}" for g, n in CHOICES])
def test_every_choice_composes_and_checks(group, name, monkeypatch, tmp_path):
    monkeypatch.setenv("KERASFT_DATA", str(tmp_path))
    cfg = settle([f"{group}={name}", *NEEDED.get((group, name), [])], (), ())
    assert composition.to_yaml(cfg)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_say_how_they_are_run(name):
    text = (composition.config_dir() / "experiment" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# @package _global_\n# ")
    assert f"kerasft train experiment={name}" in text
    cfg = kerasft.compose([f"experiment={name}"])
    assert cfg.name == name
    assert "KERASFT_DATA" in text


def test_every_config_has_a_comment_or_speaks_for_itself():
    bare = [
        f"{group}/{name}" for group, name in CHOICES
        if "#" not in (composition.config_dir() / group / f"{name}.yaml").read_text("utf-8")
        and group not in ("optimizer", "schedule")
    ]  # fmt: skip
    assert bare == []


def test_the_default_is_typed_and_in_order():
    cfg = kerasft.compose()
    assert list(cfg)[: len(schema.SCALARS)] == list(schema.SCALARS)
    assert set(cfg) == {*schema.SCALARS, *schema.RUNTIME}
    assert isinstance(cfg.epochs, int)


# --- overrides ---------------------------------------------------------------------------------


def test_an_override_may_set_what_the_yaml_leaves_out():
    cfg = settle(["optimizer.clipnorm=2.0", "optimizer.global_clipnorm=null"], (), ())
    assert cfg.optimizer.clipnorm == 2.0


def test_named_steps_merge_and_go():
    cfg = settle(["augment=light", "augment.flip.mode=vertical", "~augment.shift"], (), ())
    assert list(cfg.augment) == ["flip", "brightness"]
    assert cfg.augment.flip.mode == "vertical"
    off = settle(["augment=light", "augment.flip=null"], (), ())
    assert list(composition.build_named(off.augment)) == ["shift", "brightness"]


def test_a_step_of_ones_own():
    cfg = settle(["augment.grey._target_=keras.layers.RandomGrayscale",
                  "augment.grey.factor=0.3"], (), ())  # fmt: skip
    assert cfg.augment.grey.factor == 0.3


def test_config_dirs(mine):
    folder = mine("head/mine", "_target_: kerasft.model.heads.pooled.mlp\nwidth: 64\n")
    assert settle(["head=mine"], [str(folder)], ()).head.width == 64
    assert "mine" in composition.options("head", [folder])
    said = problem("head=mime", config_dirs=[folder])
    assert "Did you mean 'mine'?" in said
    found = composition.origins(["head=mine"], config_dirs=[folder])
    assert found["head.width"] == "head/mine.yaml"


def test_origins():
    found = composition.origins(["experiment=sst2_minilm", "head.dropout=0.2"])
    assert found["head.dropout"] == "command line: head.dropout=0.2"
    assert found["epochs"] == "experiment/sst2_minilm.yaml"
    assert found["optimizer.weight_decay"] == "optimizer/adamw.yaml"
    assert "max_steps" not in found  # nobody set it: the root's own default


def test_a_config_reads_back_as_it_was(tmp_path):
    cfg = settle(["experiment=sst2_minilm"], (), ())
    file = tmp_path / "config.yaml"
    file.write_text(composition.to_yaml(cfg), "utf-8")
    again = composition.load(file)
    assert composition.to_yaml(again) == composition.to_yaml(cfg)
    with pytest.raises(Exception, match="three"):
        again.epochs = "three"


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.every(6)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["epochs=three"], ["epochs must be a whole number", "'three'", "epochs=three"]),
        (["epochs=2.5"], ["epochs must be a whole number"]),
        (["epochs=null"], ["epochs must have a value"]),
        (["~epochs"], ["epochs cannot be taken out"]),
        (["progress=maybe"], ["progress must be true or false"]),
        (["epoch=3"], ["There is no key 'epoch'", "Did you mean 'epochs'?", "batch_size"]),
        (["hed=mlp"], ["There is no key 'hed'", "Did you mean 'head'?"]),
        (["++epoch=3"], ["There is no key 'epoch'", "Did you mean 'epochs'?"]),
        (["~data.nope"], ["There is no key 'data.nope'"]),
        (["head=mpl"],
         ["head must be one of anchor_free, decoder, dfine, language, linear, mlp, retinanet, "
          "tokens",
          "Did you mean 'mlp'?"]),
        (["experiment=sst2"], ["experiment must be one of", "sst2_minilm"]),
        (["callbacks=null"], ["callbacks must be one of default, none"]),
        (["head=mlp", "head.widht=3"], ["head.widht is unknown to kerasft.model.heads.pooled.mlp",
                                        "Did you mean 'width'?", "head.widht=3"]),
        (["head.pooling=AVG"], ["head.pooling must be", "'concat'", "Did you mean 'avg'?"]),
        (["head.dropout=high"], ["head.dropout must be a number"]),
        (["optimizer.learning_rate=fast"], ["optimizer.learning_rate must be a number above 0"]),
        (["optimizer.learning_rate=0"], ["optimizer.learning_rate must be a number above 0"]),
        (["optimizer.weight_decay=much"], ["optimizer.weight_decay must be a number"]),
        (["optimizer.lr=1"], ["optimizer.lr is unknown to keras.optimizers.AdamW",
                              "learning_rate"]),
        (["data=image_folder"], ["data.path has no value. Set it: data.path=...",
                                 "data/image_folder.yaml"]),
        (["backbone.preset=bert_tiny_en_uncase"],
         ["there is no such network in KerasHub", "Did you mean 'bert_tiny_en_uncased'?",
          "kerasft models"]),
        (["backbone=applications", "backbone.name=MobilenetV2"],
         ["there is no such network in keras.applications", "Did you mean 'MobileNetV2'?"]),
        (["batch_size=0"], ["batch_size must be at least 1"]),
        (["seed=-1"], ["seed must not be negative"]),
        (["precision=float16"], ["precision must be one of float32", "Did you mean 'float32'?"]),
        (["baseline=random"], ["baseline must be null or 'scratch'"]),
        (["floor=alway"], ["floor must be one of auto, always, none", "Did you mean 'always'?"]),
        (["name=../up"], ["name becomes a folder's name"]),
        (["name=.."], ["name becomes a folder's name"]),
        (["~head"], ["head must be chosen. Allowed: anchor_free, decoder, dfine, language, linear, "
                     "mlp, retinanet, tokens"]),
        (["~finetune.full"], ["finetune needs a stage"]),
        (["callbacks.mine=3"], ["callbacks.mine must be a mapping with a `_target_`"]),
        (["augment.flip.mode=vertical"], ["augment.flip has no `_target_`", "augment=NAME"]),
        (["epochs=1,2"], ["epochs takes one value", "kerasft train -m"]),
        (["epochs"], ["An override must read key=value"]),
        (["head.dropout='0"], ["An override must read key=value"]),
        (["=3"], ["An override must read key=value"]),
        (["hydra.run.dir=x"], ["Settings of Hydra itself are not taken", "output_dir"]),
        (["data=image_folder", "data.path=${oc.env:NO_SUCH_PLACE}"],
         ["data.path", "NO_SUCH_PLACE", "not found"]),
        (["data=image_folder", "data.path=${nowhere}"], ["data.path", "nowhere"]),
        (["optimizer._target_=keras.optimizers.Adamw"],
         ["leads nowhere", "Did you mean 'AdamW'?"]),
    ],
)  # fmt: skip
def test_one_mistake(overrides, said):
    found = problem(*overrides)
    for part in said:
        assert part in found
    assert "\n" not in found


def test_all_mistakes_at_once():
    found = problems("epochs=0", "precision=half", "head=mlp", "head.widht=3", "head.norm=bach",
                     "optimizer._target_=keras.optimizers.Adamm", "data=table")  # fmt: skip
    assert len(found) == 7
    for key in ("epochs", "precision", "head.widht", "head.norm", "optimizer._target_",
                "data.path", "data.label"):  # fmt: skip
        assert sum(said.startswith(key) for said in found) == 1, key


def test_all_overrides_that_do_not_compose_at_once():
    found = problems("epochs=three", "seed=x", "optimizer=adm", "learning_rate=3", "head=mlp")
    assert len(found) == 4


def test_what_does_not_compose_hides_nothing_else():
    found = problems("head=mpl", "head.depht=3", "precision=half", "optimizer.lr=1", "epochs=two")
    assert len(found) == 4  # head.depht hangs on the head that nobody knows
    for part in ("head must be one of", "epochs must be a whole number", "precision must be",
                 "optimizer.lr is unknown"):  # fmt: skip
        assert sum(part in said for said in found) == 1, part
    assert len(problems("experiment=nope", "precision=half")) == 1


def test_a_folder_may_be_called_as_no_preset_is(tmp_path):
    (tmp_path / "mine").mkdir()
    kerasft.check(kerasft.compose(["backbone.preset=mine"]))  # the tests run in this folder
    assert "nor is there such a folder" in problem("backbone.preset=yours")


def test_a_mistake_in_an_experiment_names_the_file(mine):
    folder = mine("experiment/typo", """\
        # @package _global_
        head:
          widht: 3
    """)  # fmt: skip
    assert "experiment/typo.yaml" in problem("experiment=typo", config_dirs=[folder])
    mine("experiment/typed", "# @package _global_\nepochs: three\n")
    found = problem("experiment=typed", config_dirs=[folder])
    assert "experiment/typed.yaml" in found
    assert "'three'" in found
    mine("experiment/unknown", "# @package _global_\nepoch: 3\n")
    found = problem("experiment=unknown", config_dirs=[folder])
    assert "experiment/unknown.yaml" in found
    assert "Did you mean 'epochs'?" in found


@pytest.mark.parametrize(
    ("text", "line"),
    [("_target_: kerasft.model.heads.pooled.mlp\n width: : 3\n", 2),
     ("_target_: kerasft.model.heads.pooled.mlp\nwidth: [1, 2\ndepth: 3\n", 3),
     ("_target_: 'kerasft\n", 2)],
)  # fmt: skip
def test_broken_yaml_is_one_line(mine, text, line):
    folder = mine("head/broken", text)
    found = problem("head=broken", config_dirs=[folder])
    assert f"{folder / 'head' / 'broken.yaml'}, line {line} cannot be read" in found
    assert "\n" not in found


def test_yaml_that_is_no_text(mine):
    folder = mine("head/bytes", b"width: \xff\xfe\n")
    assert "head/bytes.yaml cannot be read" in problem("head=bytes", config_dirs=[folder])


def test_yaml_that_is_no_mapping(mine):
    folder = mine("head/list", "- a\n- b\n")
    assert problem("head=list", config_dirs=[folder]).startswith("head must be a mapping")


def test_a_config_dir_that_is_not_there():
    assert "--config-dir must name a folder" in problem("head=mlp", config_dirs=["nowhere"])


def test_nearest():
    assert nearest("Adamw", ["Adam", "AdamW"]) == " Did you mean 'AdamW'?"
    assert nearest("zzz", ["Adam"]) == ""


# --- what a config may call --------------------------------------------------------------------


@pytest.mark.every(12)
@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.eval", "subprocess.run", "keras.utils.get_file",
        "keras.saving.load_model", "keras.models.load_model",
        "keras.config.enable_unsafe_deserialization",
        # By way of what a trusted module imports.
        "kerasft.system.cache.os.system", "kerasft.data.tables.readers.Path",
        "kerasft.training.callbacks.keras.layers.Lambda",
        "kerasft.training.callbacks.keras.saving.load_model",
        "kerasft.training.callbacks.keras.utils.get_file",
        "kerasft.data.sources.tfds_prepared.unreachable", "kerasft.run.train", "kerasft.cli.main",
        # What kerasft does itself, and is no part.
        "kerasft.exporters.reload.main", "kerasft.exporters.tensors.require",
        "kerasft.training.checkpoint.write", "kerasft.tasks.shared.load",
        "kerasft.data.images.archive.unpack", "kerasft.system.cache_ownership.cache_folder",
        "kerasft.system.cache.Cache.entries",
        "keras.layers.deserialize", "keras.optimizers.get", "keras.optimizers.AdamW.from_config",
        "kerasft.model.heads.pooled._outputs", "kerasft.model.heads.pooled.linear.__globals__",
        "keras.src.layers.core.lambda_layer.Lambda", "keras", "", "keras.layers.", "a b",
        *REFUSED,
    ],
)  # fmt: skip
def test_untrusted_targets_are_refused(target):
    found = problems(f"+head={{_target_: '{target}'}}", "~head")
    assert any(said.startswith("head._target_") for said in found), found
    callback = problems(f"+callbacks.mine={{_target_: '{target}'}}")
    assert any(said.startswith("callbacks.mine") for said in callback), callback


def test_a_target_inside_a_value_is_refused_too():
    found = problem("+backbone.image_size={_target_: os.system, command: ls}")
    assert found.startswith("backbone.image_size._target_ is refused")
    nested = problems("+callbacks.mine={_target_: keras.callbacks.CSVLogger, filename: x, "
                      "append: [{a: {_target_: os.system}}]}")  # fmt: skip
    assert any("os.system" in said for said in nested)
    wrapped = problem("+augment.mine={_target_: keras.layers.Pipeline, "
                      "layers: [{_target_: keras.layers.Lambda, function: x}]}")  # fmt: skip
    assert "keras.layers.Lambda" in wrapped


def test_trust_comes_by_argument_alone(tmp_path, monkeypatch):
    (tmp_path / "myparts.py").write_text("def head(features, *, units, width: int = 3): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    target = "head={_target_: myparts.head}"
    assert "is refused" in problem("~head", f"+{target}")
    assert "There is no key 'trusted'" in "".join(
        problems("~head", f"+{target}", "++trusted=[myparts]")
    )
    cfg = settle(["~head", f"+{target}"], (), ("myparts",))
    assert cfg.head._target_ == "myparts.head"
    assert "head.widht" in problem("~head", f"+{target}", "+head.widht=3", trusted=("myparts",))


def test_the_parts_of_kerasft_are_those_that_its_configs_name():
    named = set()
    for file in sorted(composition.config_dir().rglob("*.yaml")):
        for _, node in walk(OmegaConf.load(file)):
            if "_target_" in node and str(node["_target_"]).startswith("kerasft."):
                named.add(node["_target_"])
                # No way around: it is defined where its name says.
                where, _, name = node["_target_"].rpartition(".")
                assert (define(node["_target_"]).module, name[0] != "_") == (where, True)
    assert named == parts()
    assert len(named) > 25


def test_a_copy_of_the_configs_makes_no_parts(tmp_path):
    """The folder of a sweep holds one, and anybody may have changed it."""
    copy = tmp_path / "conf"
    shutil.copytree(composition.config_dir(), copy)
    target = "kerasft.exporters.tensors.require"
    (copy / "head" / "linear.yaml").write_text(f"_target_: {target}\nmodule: antigravity\n")
    with composition.copied_to(copy):
        assert "head._target_ is refused" in problem("head=linear")


def test_a_misspelt_part_is_told_its_name():
    found = problem("head._target_=kerasft.model.heads.pooled.mpl")
    assert "is refused" in found
    assert "Did you mean 'kerasft.model.heads.pooled.mlp'?" in found


def test_trusted_prefixes_are_whole_words():
    assert all("." in prefix for prefix in TRUSTED)
    assert "is refused" in problem("+callbacks.mine={_target_: keras.callbacksevil.X}")


def test_what_is_no_number_is_no_difference():
    one, other = (OmegaConf.create("{a: .nan, b: [.nan, 1], c: 1}") for _ in range(2))
    assert differences(one, other) == []
    other.c = 2
    assert differences(one, other) == ["c was 1, now 2"]


# --- trees that are no config, found by property tests and scripts/fuzz.py ---------------------


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"augment": "${nope}"}, "augment: Interpolation key 'nope' not found"),
        ({"backbone": "???"}, "lacks backbone"),
        ({"backbone": [1, 2]}, "backbone must be a mapping"),
        ({"name": "${:x}"}, "name: no viable alternative"),
        ({"seed": "${nope}"}, "seed: Interpolation key 'nope' not found"),
        ({"head": {1: 2}}, "head may hold words as keys alone. Received: 1"),
        ({"head": {"_target_": "kerasft.model.heads.pooled.mlp", 1.5: 2}}, "Received: 1.5"),
        ({"head": {"_target_": "kerasft.model.heads.pooled.mlp", "a.b": 1}}, "head.a.b is unknown"),
    ],
)
def test_odd_trees_are_refused_in_words(tmp_path, change, said):
    tree = OmegaConf.to_container(composition.compose(), resolve=True)
    OmegaConf.save(OmegaConf.create(tree | change), tmp_path / "config.yaml")
    with pytest.raises(UserError) as caught:
        check(composition.load(tmp_path / "config.yaml"))
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


# --- build -------------------------------------------------------------------------------------


def node(**values):
    return OmegaConf.create({"part": values}).part


def test_a_node_is_a_call():
    made = composition.build(node(_target_="keras.layers.Dense", units=3, activation="relu"))
    assert (type(made).__name__, made.units, made.activation.__name__) == ("Dense", 3, "relu")
    inner = node(_target_="keras.layers.Dense", units=3,
                 kernel_regularizer={"_target_": "keras.regularizers.L2", "l2": 0.5})  # fmt: skip
    assert float(composition.build(inner).kernel_regularizer.l2) == 0.5
    assert composition.build(node(_target_="keras.layers.Dense", _args_=[4])).units == 4


def test_what_the_run_knows_goes_where_the_config_is_silent():
    late = {"_target_": "keras.optimizers.AdamW", "learning_rate": None, "weight_decay": 0.5}
    assert float(composition.build(node(**late), learning_rate=0.25).learning_rate) == 0.25
    set_by_user = node(**{**late, "learning_rate": 0.125})
    assert float(composition.build(set_by_user, learning_rate=0.25).learning_rate) == 0.125
    # What the signature does not name is not handed in.
    assert composition.build(node(_target_="keras.layers.Dense", units=3), total_steps=7).units == 3


@pytest.mark.parametrize(("values", "said"), [
    ({"_target_": "keras.layers.Dense", "units": -1}, "part: .*units.*keras.layers.Dense"),
    ({"_target_": "kerasft.training.stages.Stage", "epochs": 0}, "epochs must be at least 1"),
])  # fmt: skip
def test_what_a_call_refuses_is_told(values, said):
    with pytest.raises(UserError, match=said):
        composition.build(node(**values))


# --- values that are nested, unfinished, or none -----------------------------------------------


@pytest.mark.every(2)
@pytest.mark.parametrize(("override", "where"), [
    ("data.path=" + "[" * 300 + "]" * 300, "data.path"),
    ("+head.x=" + "{a:" * 200 + "1" + "}" * 200, "head.x"),
])  # fmt: skip
def test_a_value_that_is_nested_too_deeply_is_not_blamed_on_defaults(override, where):
    found = problem(override)
    assert found.startswith(f"{where} is nested too deeply") and len(found) < 500


@pytest.mark.every(2)
@pytest.mark.parametrize("depth", [150, 2000])
def test_a_file_that_is_nested_too_deeply_is_not_blamed_on_its_defaults(mine, depth):
    folder = mine("experiment/deep", "# @package _global_\nhead:\n  x: " + "[" * depth
                  + "]" * depth)  # fmt: skip
    found = problem("experiment=deep", config_dirs=[folder])
    assert "experiment/deep.yaml is nested too deeply" in found
    folder = mine("experiment/round", "# @package _global_\ndefaults: [round]\n")
    found = problem("experiment=round", config_dirs=[folder])
    assert "The defaults of experiment/round.yaml lead back to itself" in found


STOP = "+callbacks.x={_target_: keras.callbacks.%s}"


@pytest.mark.every(3)
@pytest.mark.parametrize("key", [
    "callbacks.early_stopping", "optimizer", "head", "task", "data", "backbone", "schedule",
    "checkpoint", "cache", "finetune.full", "faults",
])  # fmt: skip
def test_a_part_that_is_never_made_is_refused(key):
    found = problem(f"+{key}._partial_=true")
    assert f"{key}._partial_ must be left out" in found


@pytest.mark.every(3)
@pytest.mark.parametrize(("override", "meant"), [
    ("+callbacks.x={_target_: keras.layers.Dense, units: 3}", "keras.callbacks"),
    ("+callbacks.x={_target_: keras.optimizers.Adam}", "keras.callbacks"),
    ("+augment.x={_target_: keras.callbacks.EarlyStopping}", "keras.layers"),
    ("++optimizer._target_=keras.layers.Dropout", "keras.optimizers"),
    ("++optimizer._target_=keras.optimizers.schedules.CosineDecay", "keras.optimizers"),
])  # fmt: skip
def test_a_part_of_keras_that_is_of_another_kind_is_refused(override, meant):
    assert any(f"._target_ must be a part of {meant}" in one
               for one in problems(override))  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "values"), [
    ("ReduceLROnPlateau", "cooldown: x1"), ("ReduceLROnPlateau", "cooldown: '3'"),
    ("ReduceLROnPlateau", "cooldown: [1]"), ("ReduceLROnPlateau", "cooldown: {a: 1}"),
    ("ReduceLROnPlateau", "cooldown: null"), ("ReduceLROnPlateau", "patience: many1"),
    ("ReduceLROnPlateau", "factor: [0.1]"), ("EarlyStopping", "start_from_epoch: null"),
    ("EarlyStopping", "min_delta: x0"), ("TensorBoard", "histogram_freq: a1"),
    ("TensorBoard", "profile_batch: x1"), ("TensorBoard", "profile_batch: '1,2,3'"),
    ("TensorBoard", "profile_batch: [1, a]"), ("TensorBoard", "profile_batch: '1,'"),
])  # fmt: skip
def test_a_number_of_a_callback_is_one(name, values):
    found = problem(STOP % f"{name}, {values}")
    assert f"callbacks.x.{values.split(':')[0]} must be a number" in found


@pytest.mark.every(4)
@pytest.mark.parametrize("values", [
    "TensorBoard, profile_batch: '10,20'", "TensorBoard, profile_batch: [10, 20]",
    "TensorBoard, profile_batch: 3", "TensorBoard, update_freq: batch",
    "EarlyStopping, min_delta: 0.1, verbose: true", "ReduceLROnPlateau, min_lr: 1e-6",
    "TensorBoard, histogram_freq: 1", "EarlyStopping, baseline: 0.5",
])  # fmt: skip
def test_what_callbacks_of_keras_take_is_taken(values):
    kerasft.check(kerasft.compose([STOP % values]))


@pytest.mark.parametrize("override", ["=3", "data..x=3", ".x=3", "data.=3", "+=1", "data.x"])
def test_an_override_of_a_repeated_run_has_a_name_on_each_side_of_a_dot(override, tmp_path):
    from kerasft.runs.repetition import recorded_config

    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(kerasft.compose([])))
    with pytest.raises(UserError) as caught:
        recorded_config(str(tmp_path), [override])
    (found,) = caught.value.problems
    assert found.startswith("With --from, overrides must read key=value")
    assert f"Received: {override!r}." in found


@pytest.mark.parametrize(("overrides", "head"), [
    (["task=detection"], "heads.detection.anchor_free"),
    (["task=segmentation"], "heads.segmentation.decoder"),
    (["task=tagging"], "heads.tokens.tokens"),
    (["task=causal_lm"], "heads.language.tied"),
    (["task=regression"], "heads.pooled.linear"),
    (["task=detection", "head=retinanet"], "heads.detection.retinanet"),
    (["head=mlp", "task=tagging"], "heads.pooled.mlp"),
    (["experiment=bccd_mobilenet", "head=retinanet"], "heads.detection.retinanet"),
])  # fmt: skip
def test_a_task_brings_its_head_unless_one_is_named(overrides, head):
    assert kerasft.compose(overrides).head["_target_"] == f"kerasft.model.{head}"
