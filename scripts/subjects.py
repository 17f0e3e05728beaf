"""What scripts/faults.py disturbs: a command, where it writes, and what it must come to."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from nursery import Harm, Nursery, Tried

QUESTION = "a good film"


class Training:
    """A run, in a folder of its own that is resumed.

    Args:
        folder: A folder for all of it.
        overrides: The overrides of the run.
        nursery: What runs commands.
    """

    # What must not come to it, and why.
    spared: ClassVar[dict[str, str]] = {"two": "two runs never share a folder"}

    def __init__(self, folder: Path, overrides: list[str], nursery: Nursery):
        self.folder, self.overrides, self.nursery = folder, overrides, nursery
        self.at_once = 1

    def prepare(self) -> None:
        """Make what all rounds need."""

    def lay_out(self, target: Path) -> None:
        """Make what one round needs."""

    def run(self, target: Path, harm: Harm | None = None) -> list[Tried]:
        """Run the command once, or several at once."""
        return self.nursery.run_together(self.commands(target), harm)

    def commands(self, target: Path) -> list[list[str]]:
        return [train(self.overrides, target, self.folder / "cache")]

    def watched(self, target: Path) -> Path:
        """The folder whose writes are struck."""
        return target

    def cache(self, target: Path) -> Path:
        return self.folder / "cache"

    def look(self, target: Path) -> str:
        """Say what is wrong before the command is run again, if anything."""
        return ""

    def has_ended(self, target: Path) -> bool:
        return run_has_ended(target)

    def outcome(self, target: Path, last: list[Tried]) -> Any:
        """Return what must be the same whatever happened."""
        return run_outcome(target)


class Filling(Training):
    """A run that begins with an empty cache; what is written there is struck."""

    spared: ClassVar[dict[str, str]] = {}

    def commands(self, target: Path) -> list[list[str]]:
        return [
            train(self.overrides, run, self.cache(target)) for run in self._runs(target)
        ]

    def _runs(self, target: Path) -> list[Path]:
        return [target / f"run-{number}" for number in range(self.at_once)]

    def watched(self, target: Path) -> Path:
        return self.cache(target)

    def cache(self, target: Path) -> Path:
        return target / "cache"

    def has_ended(self, target: Path) -> bool:
        return all(run_has_ended(run) for run in self._runs(target))

    def look(self, target: Path) -> str:
        """Entries under their names must be whole, whatever happened."""
        from kerasft.system.cache_entry import compare
        from kerasft.system.checksums import Damaged

        for place in self.cache(target).glob("*/*"):
            if place.is_dir() and not place.name.startswith("."):
                try:
                    compare(place, {})
                except Damaged as error:
                    return f"half an entry: {place.name}, {error}"
        return ""

    def outcome(self, target: Path, last: list[Tried]) -> Any:
        found = {run_outcome(run) for run in self._runs(target)}
        return found.pop() if len(found) == 1 else found


class Exporting(Training):
    """An export beside, or in place of, one that is there.

    Args:
        form: Which export.
        more: See `Training`.
    """

    spared: ClassVar[dict[str, str]] = {"removed": "an export reads no cache"}

    def __init__(self, form: str, *more: Any):
        super().__init__(*more)
        self.form = form
        self.own = [one for one in self.overrides if one.lstrip("+").startswith("export.")]
        self.overrides = [one for one in self.overrides if one not in self.own]
        self.finished, self.first = self.folder / "finished", self.folder / "first"

    def prepare(self) -> None:
        require_ended(self.nursery.run(train(self.overrides, self.finished, self.cache(Path()))))
        require_ended(self.run(self.first)[0])
        self.files, self.answer = names_in(self.newest(self.first)), self.ask(self.first)

    def lay_out(self, target: Path) -> None:
        shutil.copytree(self.first, target)

    def commands(self, target: Path) -> list[list[str]]:
        where = f"+export.{self.form}.directory={target}"
        command = ["export", str(self.finished), f"export={self.form}", where, *self.own]
        return [command] * self.at_once

    def newest(self, target: Path) -> Path:
        numbers = self.versions(target)
        return target / str(numbers[-1]) if numbers else target

    def versions(self, target: Path) -> list[int]:
        return sorted(int(one.name) for one in target.iterdir() if one.name.isdigit())

    def ask(self, place: Path) -> str:
        if not (place / "saved_model.pb").is_file() and not self.versions(place):
            return ""  # other forms are for other programs
        said = self.nursery.run(["predict", str(place), QUESTION, "--json"]).said
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return str([(row["label"], round(row["score"], 5)) for row in rows]) if rows else said

    def look(self, target: Path) -> str:
        """What was there must be there, and what counts as an export must be whole."""
        if not target.is_dir():
            return "the export that was there is gone"
        numbers = self.versions(target)
        if not numbers:
            before = digest(target) == digest(self.first)
            if before or names_in(target) == self.files:
                return ""
            return f"half an export: {sorted(names_in(target) ^ self.files)[:5]}"
        if digest(target / "1") != digest(self.first / "1"):
            return "version 1 is not what it was"
        for number in numbers[1:]:
            if names_in(target / str(number)) != self.files:
                return f"half an export: version {number}"
            if self.ask(target / str(number)) != self.answer:
                return f"version {number} answers otherwise"
        return ""

    def has_ended(self, target: Path) -> bool:
        return True  # with its command

    def outcome(self, target: Path, last: list[Tried]) -> Any:
        return self.look(target), names_in(self.newest(target)), self.ask(target)


class Evaluating(Training):
    """A finished run that is measured again, from an empty cache."""

    spared: ClassVar[dict[str, str]] = {"two": "an evaluation writes nothing but the cache"}

    def prepare(self) -> None:
        self.finished = self.folder / "finished"
        command = train(self.overrides, self.finished, self.folder / "cache")
        require_ended(self.nursery.run(command))

    def lay_out(self, target: Path) -> None:
        shutil.copytree(self.finished, target / "run")
        config = target / "run" / "config.yaml"
        text = config.read_text()
        assert str(self.folder / "cache") in text
        config.write_text(text.replace(str(self.folder / "cache"), str(self.cache(target))))
        self.before = digest(target / "run")

    def commands(self, target: Path) -> list[list[str]]:
        return [["evaluate", str(target / "run"), "--json"]]

    def cache(self, target: Path) -> Path:
        return target / "cache"

    def look(self, target: Path) -> str:
        return "" if digest(target / "run") == self.before else "the run folder was changed"

    def has_ended(self, target: Path) -> bool:
        return True

    def outcome(self, target: Path, last: list[Tried]) -> Any:
        said = last[0].said
        return self.look(target), json.loads(said[said.index("{") : said.rindex("}") + 1])


def train(overrides: list[str], target: Path, cache: Path | str) -> list[str]:
    return ["train", *overrides, f"output_dir={target}", f"cache.directory={cache}", "resume=auto"]


def require_ended(tried: Tried) -> None:
    if tried.code:
        raise SystemExit(f"what shall be disturbed failed by itself:\n{tried.said[-3000:]}")


def names_in(folder: Path) -> set[str]:
    """Return the files in a folder, but for temporary ones of exports beside it."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return {name for name in found if not name.startswith(".")}


def digest(folder: Path) -> str:
    """Return the SHA-256 of a folder's files and their names."""
    together = hashlib.sha256()
    for name in sorted(names_in(folder)):
        together.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return together.hexdigest()


def run_has_ended(run: Path) -> bool:
    facts = run / "run.json"
    return facts.is_file() and json.loads(facts.read_text())["status"] == "done"


def run_outcome(run: Path) -> tuple:
    """Return all that a run comes to, without times: weights, log, metrics."""
    rows = [json.loads(line) for line in (run / "logs" / "epochs.jsonl").read_text().splitlines()]
    log = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    with zipfile.ZipFile(run / "checkpoints" / "best.keras") as model:
        weights = hashlib.sha256(model.read("model.weights.h5")).hexdigest()
    return weights, json.dumps(log), (run / "metrics.json").read_text()
