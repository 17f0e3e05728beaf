"""Configs that unfold without end, and numbers beyond all measure, are refused at once."""

from __future__ import annotations

import time

import pytest
from omegaconf import OmegaConf

from kerasft.config import composition
from kerasft.config.bounds import MOST, MOST_OF_PARTS, require_bounded
from kerasft.config.checks import check, settle
from kerasft.errors import UserError

BOMB = "\n".join(
    ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
)


@pytest.fixture(autouse=True)
def _at_once():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 8, "a refusal must not take long"


def doubled(line, first, times=40):
    return {"b0": first} | {f"b{i}": line(i - 1) for i in range(1, times)}


DOUBLED = {
    "lists": doubled(lambda i: [f"${{head.b{i}}}", f"${{head.b{i}}}"], ["x", "x"]),
    "mappings": doubled(lambda i: {"a": f"${{head.b{i}}}", "b": f"${{head.b{i}}}"}, {"a": 1}),
    "texts": doubled(lambda i: f"${{head.b{i}}}${{head.b{i}}}", "x"),
    "long texts": doubled(lambda i: f"${{head.b{i}}}${{head.b{i}}}", "x" * 100_000, 12),
    "relative": doubled(lambda i: [f"${{..b{i}}}", f"${{..b{i}}}"], ["x"]),
    "keys that are put together": {f"k{i}": f"b{i}" for i in range(40)} | doubled(
        lambda i: [f"${{head.${{head.k{i}}}}}"] * 2, ["x"]),
    "resolvers": doubled(lambda i: [f"${{oc.select:head.b{i}}}"] * 2, ["x"]),
    "values of a mapping": doubled(lambda i: {
        "a": f"${{oc.dict.values:head.b{i}}}", "b": f"${{oc.dict.values:head.b{i}}}"}, {"a": 1}),
    "a large list, often": {"b0": ["x"] * 5000, "b1": ["${head.b0}"] * 60},
}  # fmt: skip


@pytest.mark.every(6)
@pytest.mark.parametrize("how", DOUBLED)
def test_interpolations_that_double_are_refused(how, tmp_path):
    head = {"_target_": "kerasft.model.heads.pooled.linear", **DOUBLED[how]}
    folder = tmp_path / "experiment"
    folder.mkdir()
    text = OmegaConf.to_yaml(OmegaConf.create({"head": head}))
    (folder / "doubled.yaml").write_text("# @package _global_\n" + text)
    with pytest.raises(UserError, match="interpolations") as caught:
        settle(["experiment=doubled"], [str(tmp_path)], ())
    assert len(caught.value.problems) == 1


def test_they_are_counted_in_a_config_that_was_composed_and_in_that_of_a_run(tmp_path):
    cfg = composition.compose()
    linear = {"_target_": "kerasft.model.heads.pooled.linear"}
    cfg.head = OmegaConf.create({**linear, **DOUBLED["lists"]})
    with pytest.raises(UserError, match="interpolations"):
        check(cfg)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    with pytest.raises(UserError, match="interpolations"):
        composition.load(tmp_path / "config.yaml")


def test_what_holds_itself_is_refused():
    with pytest.raises(UserError):
        settle(["head.a={b: '${head}'}"], (), ())


def test_plain_interpolations_are_not_refused():
    require_bounded(OmegaConf.create({"a": 1, "b": ["${a}", "${nope}", "x${a}"], "c": "${b}"}))


@pytest.mark.parametrize(("file", "ask"), [
    ("experiment/bomb.yaml", ["experiment=bomb"]), ("other/bomb.yaml", ["+other@callbacks.x=bomb"]),
    ("experiment/deep/bomb.yaml", ["experiment=deep/bomb"]),
])  # fmt: skip
def test_aliases_are_counted_in_every_file_that_is_composed(file, ask, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(BOMB)
    with pytest.raises(UserError, match="unfolds to") as caught:
        settle(ask, [str(tmp_path)], ())
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("listed", ["/other/bomb@callbacks.x", "../other/bomb@callbacks.x"])
@pytest.mark.parametrize("link", [False, True])
def test_aliases_are_counted_in_what_a_defaults_list_names(listed, link, tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    place = tmp_path / ("elsewhere" if link else "mine/other")
    place.mkdir()
    (place / "bomb.yaml").write_text(BOMB)
    if link:
        (tmp_path / "mine/other").symlink_to(place)
    (tmp_path / "mine/experiment/named.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - {listed}\n"
    )
    with pytest.raises(UserError, match=r"unfolds to|no config named"):
        settle(["experiment=named"], [str(tmp_path / "mine")], ())


def test_the_configs_of_a_search_are_counted_too(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/bomb.yaml").write_text(BOMB)
    with pytest.raises(UserError, match="unfolds to"):
        composition.compose_search(["sweep=bomb"], config_dirs=[str(tmp_path)])
    text = OmegaConf.to_yaml(OmegaConf.create(
        {f"b{i}": [f"${{sweep.b{i - 1}}}"] * 2 for i in range(1, 40)} | {"b0": ["x"]}
    ))
    (tmp_path / "sweep/doubled.yaml").write_text(text)
    with pytest.raises(UserError, match="interpolations"):
        composition.compose_search(["sweep=doubled"], config_dirs=[str(tmp_path)])


HUGE = ["1" + "0" * 400, "1" + "0" * 5000, "0x" + "f" * 6000, "1e308", ".inf", ".nan", "-.inf",
        "9223372036854775808", "-1" + "0" * 400]  # fmt: skip


@pytest.mark.every(36)
@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("key", MOST)
def test_numbers_beyond_all_measure_are_refused(key, value, tmp_path):
    with pytest.raises(UserError) as caught:
        settle([f"{key}={value}"], (), ())
    assert any(key in said for said in caught.value.problems)
    assert all(len(said) < 700 for said in caught.value.problems), "a number is not written out"


@pytest.mark.every(8)
@pytest.mark.parametrize("key", [
    *MOST_OF_PARTS, "optimizer.weight_decay", "optimizer.learning_rate", "finetune.all.epochs",
    "callbacks.early_stopping.patience", "data.validation",
])  # fmt: skip
@pytest.mark.parametrize("value", ["1" + "0" * 400, ".nan"])
def test_the_same_is_true_of_the_numbers_of_parts(key, value):
    with pytest.raises(UserError) as caught:
        settle([f"{key}={value}"], (), ())
    assert any(key in said for said in caught.value.problems)


def test_large_numbers_that_a_machine_can_use_are_taken():
    cfg = settle([f"{key}={most}" for key, most in MOST.items()], (), ())
    assert cfg.epochs == MOST["epochs"]


@pytest.mark.slow
def test_threads_count_by_themselves_and_omegaconf_stays_as_it_is():
    import threading

    from omegaconf.base import Container

    methods = Container._resolve_node_interpolation, Container._evaluate_custom_resolver
    errors, ended = [], []
    values = {"a": 1, **{f"b{i}": "${a}" for i in range(30)}}

    def look():
        try:
            for _ in range(40):
                require_bounded(OmegaConf.create(values))
            ended.append(True)
        except BaseException as error:
            errors.append(error)

    def resolve():
        others = OmegaConf.create({"a": 1, "b": "${a}"})
        ended.append(all(others.b == 1 for _ in range(3000)))

    threads = [threading.Thread(target=act) for act in (look, look, look, resolve)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and ended == [True] * 4
    assert methods == (Container._resolve_node_interpolation, Container._evaluate_custom_resolver)
    after = OmegaConf.create({"a": 1, "b": "${a}"})
    assert all(after.b == 1 for _ in range(3000))
    with pytest.raises(UserError, match="interpolations"):
        require_bounded(OmegaConf.create(DOUBLED["lists"] | {"head": DOUBLED["lists"]}))
