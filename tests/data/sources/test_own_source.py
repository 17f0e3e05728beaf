"""The source that the documentation writes, as it is written there."""

import re
import sqlite3
from pathlib import Path

import pytest

import kerasft
from kerasft.testing import check_data

PAGE = Path(__file__).parents[3] / "docs" / "bring-your-own-data.md"


def block(language, first):
    """Return the one block of the page that begins with a line."""
    found = re.findall(rf"^```{language}\n(# {first}.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(found) == 1
    return found[0]


@pytest.fixture
def overrides(tmp_path, monkeypatch):
    (tmp_path / "mysource.py").write_text(block("python", "mysource.py"))
    (tmp_path / "MYCONF" / "data").mkdir(parents=True)
    (tmp_path / "MYCONF" / "data" / "reviews.yaml").write_text(block("yaml", "MYCONF/data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [(i, f"{['bad', 'good'][i % 2]} film {i}", i % 2) for i in range(40)]
    database = sqlite3.connect("reviews.db")
    with database:
        database.execute("CREATE TABLE review (id INTEGER, body TEXT, stars INTEGER)")
        database.executemany("INSERT INTO review VALUES (?, ?, ?)", rows)
    database.close()
    return ["data=reviews", "data.path=reviews.db", "backbone=tiny_bert", "batch_size=8",
            "backbone.sequence_length=8", "epochs=1", "progress=false",
            "cache.directory=cache"]  # fmt: skip


@pytest.mark.slow
def test_the_source_of_the_documentation(overrides):
    import mysource

    splits = mysource.reviews("reviews.db", kind="single", seed=0)
    check_data(splits)
    assert splits.train.ids[0].startswith("review/")
    own = {"config_dirs": ["MYCONF"], "trusted": ["mysource"]}
    [stage] = kerasft.plan(overrides, **own)
    assert stage.steps == 4
    with pytest.raises(kerasft.UserError, match=r"Received: 'mysource\.reviews'"):
        kerasft.plan(overrides, config_dirs=["MYCONF"])


@pytest.mark.slow
def test_a_run_of_it(overrides):
    result = kerasft.train(overrides, config_dirs=["MYCONF"], trusted=["mysource"])
    assert "test" in result.metrics
    assert kerasft.evaluate(str(result.output_dir), trusted=["mysource"])
