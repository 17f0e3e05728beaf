"""Looks for inputs on which the table reader or the config layer breaks down.

What is wrong with an input must be told by a UserError; all else is a finding, warnings too.

    python scripts/fuzz.py table --seconds 60 [CORPUS]
    python scripts/fuzz.py config --seconds 60 [CORPUS]
    python scripts/fuzz.py table --replay fuzz-table-0a1b2c3d

atheris leads the search by what code an input reaches. A finding does not end it: each kind, told
apart by the exception and the place that raised it, is written once to a file in the folder of
`--findings`. CORPUS is a folder of inputs to begin with, to which those that reach something new
are added. The exit status is 1 where there are findings.

An input of `table` is four bytes (format, encoding, task, and flags for header, quoting and
delimiter), then the file. One of `config` is a byte (what is meant: overrides, a run's config,
changes to one, or a config of the user's own), then text.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

SUFFIXES = ("csv", "tsv", "jsonl", "json")
ENCODINGS = ("utf-8", "utf-16", "cp1252", "gb18030", "shift_jis", "utf-7")
KINDS = ("single", "multi", "number")
DELIMITERS = (None, ";", "|", "\t")
# Modules whose branches lead the search.
WATCHED = {
    "table": ("kerasft.data.sources.table", "kerasft.data.tables.readers",
        "kerasft.data.tables.encodings", "kerasft.data.tables.delimited",
        "kerasft.data.tables.quotes", "kerasft.data.annotations.label_lists",
        "kerasft.data.annotations.list_cells", "kerasft.data.annotations.alike",
        "kerasft.data.tables.columns", "kerasft.data.annotations.classes",
        "kerasft.data.collection", "kerasft.data.splits"),
    "config": ("kerasft.config.composition", "kerasft.config.checks", "kerasft.config.targets",
        "kerasft.config.hydra_errors", "kerasft.config.diff", "kerasft.config.parameters",
        "kerasft.config.bounds", "kerasft.config.write_paths"),
}  # fmt: skip
# What no search comes upon by chance.
WORDS = {
    "table": ('"text"', '"label"', '""', "\r\n", "NaN", "null", "true", "1e400", "\\ud800"),
    "config": ("_target_", "_partial_", "_args_", "keras.optimizers.SGD", "keras.layers.RandomFlip",
               "kerasft.training.stages.Stage", "kerasft.model.heads.pooled.mlp", "${seed}",
               "${head}", "${oc.env:HOME}", "???", "null", ".nan", "optimizer:", "finetune:",
               "callbacks:", "backbone:", "augment:", "defaults:", "override /",
               "!!python/name:os.system ", "&a ", "*a", "<<: "),
}
LONGEST = 4096

Target = Callable[[bytes], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(WATCHED))
    parser.add_argument("corpus", nargs="?", type=Path, help="a folder of inputs to begin with")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers; not 0")
    parser.add_argument("--findings", type=Path, default=Path(), help="where they are written")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input, and say more")
    options = parser.parse_intermixed_args()  # CORPUS may stand behind options
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory(prefix="kerasft-fuzz-") as name:
        if options.replay:
            TARGETS[options.target](Path(name))(options.replay.read_bytes())
            print("nothing but what is allowed: it is read, or refused with a UserError")
            return
        search(options, Path(name))


def search(options: argparse.Namespace, folder: Path) -> None:
    """Let atheris make up inputs for some seconds."""
    try:
        import atheris
    except ImportError:
        print("error: the fuzzer is not installed: pip install atheris", file=sys.stderr)
        sys.exit(2)
    with atheris.instrument_imports(include=list(WATCHED[options.target])):
        for module in WATCHED[options.target]:
            importlib.import_module(module)
    corpus = options.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(options.target)):
        (folder / "seeds").mkdir(exist_ok=True)
        (folder / "seeds" / str(number)).write_bytes(data)
    words = folder / "words"
    # libFuzzer's way to write them: bytes in hexadecimal digits.
    words.write_text("".join(
        '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"\n'
        for word in WORDS[options.target]
    ))
    options.findings.mkdir(parents=True, exist_ok=True)
    watch = Watch(TARGETS[options.target](folder), options, folder)
    atheris.Setup(
        [sys.argv[0], str(corpus), str(folder / "seeds"), f"-max_len={LONGEST}",
         f"-dict={words}", f"-seed={options.seed}", "-timeout=60",
         f"-artifact_prefix={options.findings}/fuzz-{options.target}-"],
        watch,
    )  # fmt: skip
    atheris.Fuzz()


class Watch:
    """Runs a target, keeps one input of each kind of finding, and goes on.

    Args:
        target: What is tried.
        options: The command line.
        folder: What to remove at the end.
    """

    def __init__(self, target: Target, options: argparse.Namespace, folder: Path):
        self.folder = folder
        self.target, self.name, self.findings = target, options.target, options.findings
        self.seconds = options.seconds
        self.seen: set[tuple] = set()
        self.count, self.began = 0, time.monotonic()

    def __call__(self, data: bytes) -> None:
        self.count += 1
        try:
            self.target(data)
        except Exception as error:
            from kerasft.config.frames import is_ours

            last = traceback.extract_tb(error.__traceback__)
            ours = [f for f in last if is_ours(f.filename)] or last
            kind = (type(error), ours[-1].filename, ours[-1].lineno)
            if kind not in self.seen:
                self.seen.add(kind)
                digest = hashlib.sha256(data).hexdigest()[:8]
                file = self.findings / f"fuzz-{self.name}-{digest}"
                file.write_bytes(data)
                print(f"FINDING {type(error).__name__}: {str(error)[:200]!r} at "
                      f"{ours[-1].filename}:{ours[-1].lineno}; kept in {file}", flush=True)

        if (took := time.monotonic() - self.began) > self.seconds:
            print(f"{self.name}: {self.count:,} executions in {took:.0f} s, {len(self.seen)} kinds "
                  "of findings", flush=True)
            # atheris takes exceptions for findings, SystemExit too.
            shutil.rmtree(self.folder)
            os._exit(bool(self.seen))


@contextlib.contextmanager
def refusals_allowed():
    """Let a UserError pass, as long as it says something, and take a warning for an error."""
    from kerasft.errors import UserError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            yield
        except UserError as error:
            assert all(problem.strip() for problem in error.problems)


def table_target(folder: Path) -> Target:
    """Return a function that reads bytes as a table, down to the splits."""
    from kerasft.data.sources.table import table

    def read(data: bytes) -> None:
        form, encoding, kind, flags = data[:4].ljust(4, b"\0")
        path = folder / f"table.{SUFFIXES[form % len(SUFFIXES)]}"
        path.write_bytes(data[4:])
        named = flags & 1 == 0
        with refusals_allowed():
            splits = table(
                str(path), kind=KINDS[kind % len(KINDS)], seed=0,
                encoding=ENCODINGS[encoding % len(ENCODINGS)],
                text="text" if named else 0, label="label" if named else 1, header=named,
                quoting=flags & 2 == 0, delimiter=DELIMITERS[flags >> 2 & 3],
                split="hash" if flags & 16 else "stratified",
                label_delimiter=None if flags & 32 else ",",
            )  # fmt: skip
            for part in splits.parts.values():
                assert len(part) == len(set(part.ids)) > 0

    return read


def config_target(folder: Path) -> Target:
    """Return a function that takes bytes for overrides, or for a config of one kind or another."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from kerasft.config.checks import check, settle
    from kerasft.config.composition import compose, load, to_yaml
    from kerasft.config.diff import differences

    usual = compose()
    file, mine = folder / "config.yaml", folder / "mine" / "experiment" / "odd.yaml"
    mine.parent.mkdir(parents=True)

    def read(data: bytes) -> None:
        what, rest = data[:1] or b"\0", data[1:]
        with refusals_allowed():
            if what[0] % 8 == 0:  # slow, as Hydra composes
                cfg = settle(rest.decode("utf-8", "replace").split("\n")[:4], (), ())
            elif what[0] % 8 < 4:
                file.write_bytes(rest)
                cfg = load(file)
                check(cfg)
            elif what[0] % 8 < 7:
                try:
                    cfg = OmegaConf.merge(usual, OmegaConf.create(rest.decode("utf-8", "replace")))
                except (OmegaConfBaseException, YAMLError, ValueError, TypeError, AssertionError):
                    return  # OmegaConf's own concern: `load` is tried with such texts, too
                check(cfg)
            else:
                mine.write_bytes(b"# @package _global_\n" + rest)
                cfg = settle(["experiment=odd"], [str(folder / "mine")], ())
            file.write_text(to_yaml(cfg), "utf-8")
            assert differences(cfg, load(file)) == []

    return read


TARGETS: dict[str, Callable[[Path], Target]] = {"table": table_target, "config": config_target}


def seeds(target: str) -> list[bytes]:
    """Return inputs from which a search begins."""
    if target == "config":
        from kerasft.config.composition import compose, to_yaml

        return [
            b"\x00head=mlp\nhead.dropout=0.2\nepochs=3\n~augment.flip",
            b"\x00+augment.a={_target_:keras.layers.RandomFlip}\ndata.path='a,b'\nname=${seed}",
            b"\x07defaults:\n  - override /head: mlp\nepochs: ???\nhead: {width: ${batch_size}}\n",
            b"\x07finetune:\n  a: null\n  b: {_target_: kerasft.training.stages.Stage}\n",
            b"\x01" + to_yaml(compose()).encode(),
            b"\x04head: {_target_: kerasft.model.heads.pooled.mlp, width: 1e3, activation: [a, ~]}",
            b"\x04seed: ???\ntask: ${head}\nname: ${optimizer.weight_decay}\nexport: 1",
            b"\x04optimizer: {_target_: keras.optimizers.SGD, momentum: {a: '${no.thing}'}}",
        ]
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(12)]
    cells = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)
    lines = "".join(f'{{"text": "{t}", "label": "{x}"}}\n' for t, x in rows)
    made = {0: cells, 1: cells.replace(",", "\t"), 2: lines,
            3: "[" + ",".join(lines.splitlines()) + "]"}  # fmt: skip
    return [
        bytes([form, encoding, kind, flags]) + text.encode(name)
        for form, text in made.items()
        for encoding, name in enumerate(ENCODINGS)
        for kind, flags in ((0, 0), (1, 2), (2, 1), (0, 16))
    ]


if __name__ == "__main__":
    main()
