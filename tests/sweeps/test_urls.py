"""Databases: which may be asked, and that no password is shown."""

from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import journal
from kerasft.sweeps.urls import problems, without_password, without_secrets
from kerasft.system.passwords import override_shown, text_without

SECRET = {
    "plain": "postgresql://me:hidden@host/db",
    "coded": "postgresql://me:hid%40den@host/db",
    "with an @": "postgresql://me:one@hidden@127.0.0.1:1/db",
    "with a slash": "postgresql://me:a/hidden@host/db",
    "with a colon": "postgresql://me:a:hidden@host/db",
    "behind the ?": "postgresql://host:1/db?user=me&password=hidden",
    "behind the ? with an @": "postgresql://host:1/db?user=me&password=one@hidden",
    "behind the ? with a ;": "postgresql://host:1/db?password=a;hidden",
    "by another name": "mysql+pymysql://me@host/db?passwd=hidden",
    "of a key": "postgresql://host/db?sslmode=require&sslpassword=hidden",
    "of another kind": "redis://:hidden@host:6379",
    "of a file": "sqlite+pysqlcipher://:hidden@/study.db",
    "of no URL": "me:hidden@host/db",
    "with a blank": "postgresql://me:a hidden@host/db",
    "with a line break": "postgresql://me:a\nhidden@host/db",
    "with the host forgotten": "postgresql+psycopg://me:hidden/db",
    "with the host forgotten, but not its port": "mysql://me:hidden:3306/db",
    "with & for the ?": "postgresql://host/db&password=hidden",
    "with ; for the ?": "postgresql://host/db;password=hidden",
    "in the name of a database": "postgresql://me@host/db?dbname=password%3Dhidden",
    "in the path": "postgresql://me@host/db%3Fpassword%3Dhidden",
    "in the user": "postgresql://me%3Ahidden@host/db",
    "in the name of an option": "postgresql://host/db?hidden%40=x",
}


@pytest.mark.parametrize("case", SECRET)
def test_no_part_of_a_password_is_shown(case):
    url = SECRET[case]
    for text in (without_password(url), *problems(url)):
        assert "hidden" not in text and "hid%40den" not in text and "one@" not in text
    # Nor by what a database says of it.
    said = f"could not translate {url!r}: no host 'one@hidden', password hidden or hid@den"
    assert "hid@den" not in without_secrets(said, SECRET["coded"])
    assert "hidden" not in without_secrets(said.replace("one@hidden", ""), SECRET["plain"])


def test_a_short_password_is_not_told_by_what_is_missing():
    assert "ab" not in without_secrets("no role ab in database cab", "postgresql://me:ab@host/db")


TYPED = [
    "sweep.storage=postgresql://me:hid,den@host/db", "sweep.storage=postgresql://me:hidden(@host/db",
    "sweep.storge=postgresql://me:hidden@host/db", "sweep.storage='postgresql://me:hidden@host/db",
    "+sweep.storage=postgresql://me:hidden@host/db", "storage=postgresql://me:hidden@host/db",
    "swep.storage=postgresql://me:hidden(@host/db", "hydra.x=postgresql://me:hidden@host/db",
    "sweep.storage=[postgresql://me:hidden@host/db]", "sweep.storage=postgresql:me:hidden@host/db",
    'sweep.storage={url: "postgresql://me:hidden@host/db"}', "sweep.workers=a://me:hidden@host/db",
    "sweep.storage=postgresql://me:hid den@host/db", "postgresql://me:hidden@host/db",
    "sweep=postgresql://me:hidden@host/db", "--storage=postgresql://me:hidden@host/db",
    "head=postgresql://me:hidden@host/db,linear", "sweep.storage==postgresql://me:hidden@host/db",
]  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("override", TYPED)
def test_no_message_repeats_the_password_of_an_override(override, kerasft_cli, tmp_path, capsys):
    try:
        done = kerasft_cli("sweep", "batch_size=4,8", override, f"output_dir={tmp_path / 's'}")
        said, code = done.out + done.err, done.code
    except SystemExit as error:  # of the parser
        said, code = capsys.readouterr().err, error.code
    assert code == 2 and said
    assert "hidden" not in said and "den@" not in said and "hid," not in said


@pytest.mark.parametrize("override", [
    "a=1,2", "data.path=/x/y:z", "head={_target_: x}", "data.path=https://host/a.zip",
    "optimizer@b=adam", "model=hf://org/name",
])  # fmt: skip
def test_other_overrides_are_repeated_as_they_are(override):
    assert override_shown(override) == override
    assert text_without(f"no {override}", [override]) == f"no {override}"


@pytest.mark.parametrize("url", [
    "postgresql://me:one@two@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db?password=one@two",
    "postgresql://me:two@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db?password=two",
    "postgresql+psycopg://me:t%77o@127.0.0.1:1/db?connect_timeout=1&odd=two",
])  # fmt: skip
def test_a_database_that_does_not_answer_shows_nothing(url, begin, tmp_path, kerasft_cli):
    import json

    ledger = begin(tmp_path / "s")
    facts = json.loads((ledger.path / "sweep.json").read_text())
    facts["search"]["storage"] = url
    (ledger.path / "sweep.json").write_text(json.dumps(facts))
    done = kerasft_cli("leaderboard", str(ledger.path))
    assert done.code == 2 and "sweep.storage" in done.err
    assert "two" not in (done.out + done.err).replace("between two", "")


@pytest.mark.every(3)
@pytest.mark.parametrize("url", [
    "sqlite:///file:{}?uri=true", "sqlite:///file:{}?mode=rwc&uri=true", "sqlite+pysqlite:///{}",
    "sqlite:///{}", "sqlite:///{}?timeout=3", "sqlite:///%66ile:{}?uri=true",
])  # fmt: skip
def test_a_file_that_is_not_there_is_never_made(url, begin, tmp_path, kerasft_cli, monkeypatch):
    import json

    monkeypatch.chdir(tmp_path)
    ledger = begin(tmp_path / "s")
    facts = json.loads((ledger.path / "sweep.json").read_text())
    before = {file.name for file in tmp_path.iterdir()}
    for place in (tmp_path / "gone.db", "gone.db"):
        facts["search"]["storage"] = url.format(place)
        (ledger.path / "sweep.json").write_text(json.dumps(facts))
        for words in (["leaderboard"], ["resume"], ["export", "best-of"]):
            done = kerasft_cli(*words, str(ledger.path))
            assert done.code == 2 and "gone.db" in done.err
    assert {file.name for file in tmp_path.iterdir()} == before


def test_a_database_of_another_program_gets_no_tables(begin, tmp_path):
    import json
    import sqlite3

    from kerasft.sweeps import ledger as ledgers

    other = tmp_path / "cookies.db"
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE cookies (name)")
    before = other.read_bytes()
    ledger = begin(tmp_path / "s")
    facts = json.loads((ledger.path / "sweep.json").read_text())
    facts["search"]["storage"] = f"sqlite:///{other}"
    (ledger.path / "sweep.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="has lost what was written down of its trials"):
        ledgers.reopen(ledger.path).counts()
    assert other.read_bytes() == before


def test_a_file_that_goes_away_meanwhile_is_not_made_anew(begin, tmp_path):
    from kerasft.sweeps import ledger as ledgers

    file = tmp_path / "study.db"
    ledger = begin(tmp_path / "s", storage=f"sqlite:///{file}")
    opened = ledgers.reopen(ledger.path)
    assert opened.counts()["done"] == 0
    file.unlink()
    with pytest.raises(journal.StorageFailed, match="unable to open"):
        opened.counts()
    assert not file.exists()


@pytest.mark.parametrize(("url", "said"), [
    ("sqlite://", "by its path"), ("sqlite:///:memory:", "by its path"),
    ("sqlite:///file:a.db", "by its path"), ("sqlite:///a.db?vfs=x", "'vfs' is not taken"),
    ("redis://host", "must be the URL of a database"), ("mssql+pyodbc://x", "must be the URL"),
    ("mysql+pymysql://h/d?local_infile=1", "may load code, or read files"),
    ("postgresql://h/d?plugin=x", "may load code"),
    ("postgresql://h/d?dbname=host%3Delsewhere", "must be the name of a database"),
    ("nonsense", "must be the URL"),
])  # fmt: skip
def test_what_is_no_database_of_a_sweep(url, said):
    (told,) = problems(url)
    assert said in told


@pytest.mark.parametrize("url", [
    "sqlite:////a@b/c d/study.db", "sqlite:///study.db?timeout=5", "postgresql://me@h1:1,h2/db",
    "postgresql+psycopg://me:secret@/postgres?host=/tmp/x", "postgresql://me:a:b/c@[::1]:5/db",
    "mysql+pymysql://me@host/db?charset=utf8mb4",
])  # fmt: skip
def test_what_is_one(url):
    assert not list(problems(url))


def test_a_database_that_holds_what_is_no_json_is_named(begin, tmp_path):
    import sqlite3

    from kerasft.sweeps import ledger as ledgers

    ledger = begin(tmp_path / "s", storage=f"sqlite:///{tmp_path}/study.db")
    claim = ledger.claim()
    claim.lock.release()
    with sqlite3.connect(tmp_path / "study.db") as made:
        made.execute("UPDATE trial_user_attributes SET value_json = 'evil('")
    with pytest.raises(journal.StorageFailed, match=r"study\.db' cannot be read"):
        ledgers.reopen(ledger.path).counts()
