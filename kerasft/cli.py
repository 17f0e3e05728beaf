"""The command line: argv -> Hydra -> run.*. Nothing here imports TensorFlow."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

from kerasft.commands import parse
from kerasft.errors import Stopped, UserError
from kerasft.system.processes import need_current_folder

# What a shell learns; `main` says more.
OK, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
# `kerasft export best-of SWEEP` exports the best of its runs.
BEST = "best-of"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; by default those of the process.

    Returns:
        The exit status: 0, 1 for an export that `verify` finds wanting or images that `predict`
        could not answer, 2 for a user's mistake, 69 where a worker's port is in use, 130 when
        interrupted, 143 after SIGTERM, 75 where `max_time` was over or a worker was lost.
    """
    from kerasft.system.console import show_whatever

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    show_whatever()
    options = parse(argv)
    try:
        act = ACTS[options.command]
        if act.heavy:
            from kerasft.system.console import cleaned_up, clock, without_chatter

            clock.of_command = True
            gc.set_threshold(100_000, 50, 1000)  # looking for garbage slows imports by a fifth
            with without_chatter(), cleaned_up():
                return act.run(options) or OK
        return act.run(options) or OK
    except UserError as error:
        _complain(error)
        return error.code
    except Stopped as stopped:
        from kerasft.runs.again import going_on
        from kerasft.system.terminal import together

        last = f"To go on: {going_on(stopped)}" if stopped.folder else ""
        print(together(f"{stopped}.", last, sys.stderr).rstrip(), file=sys.stderr)
        return stopped.code
    except FileNotFoundError:
        from kerasft.system.files import GONE, current

        if current() is not None:
            raise
        _complain(UserError(GONE))
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (head, say) has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _complain(error: UserError) -> None:
    from kerasft.system.console import complain

    complain(error.problems)


def _train(options: argparse.Namespace) -> None:
    _trust_here(options.trust)
    if options.json and not options.plan:
        raise UserError("--json prints the plan of a run; add --plan, or leave it out.")
    if options.trainable and (options.plan or options.multirun):
        raise UserError("--trainable shows what trains in one run; leave out --plan and -m.")
    if options.multirun:
        if options.plan:
            raise UserError("--plan plans one run; it cannot be joined with -m.")
        if options.source is not None:
            raise UserError("--from repeats one run; it cannot be joined with -m.")
        from kerasft.sweeps.grid import grid

        grid(options.overrides, config_dirs=options.config_dir, trusted=options.trust)
        return
    from kerasft.runs.repetition import repeating

    with repeating(options.source):
        _train_one(options)


def _train_one(options: argparse.Namespace) -> None:
    # Settled before TensorFlow is imported: a mistake is told within half a second.
    from kerasft.config.checks import settle
    from kerasft.runs import run_folder
    from kerasft.runs.repetition import recorded_config

    config: Any = options.overrides
    if options.source is not None:
        config = recorded_config(options.source, options.overrides)
    config = settle(config, options.config_dir, options.trust)
    if options.plan:
        _plan(config, options)
        return
    if options.trainable:
        from kerasft.run import trainable

        trainable(config, trusted=options.trust)
        return
    if config.resume and run_folder.has_ended(config.output_dir):
        print(f"The run in {config.output_dir!r} has ended; there is nothing to do.")
        return
    from kerasft.run import train

    train(config, trusted=options.trust)


def _plan(config: Any, options: argparse.Namespace) -> None:
    from kerasft.run import plan
    from kerasft.steps.costs.plan import tell

    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        plans = plan(config, trusted=options.trust)
    if options.json:
        print(json.dumps([one.to_dict() for one in plans], indent=2))
    else:
        tell(plans)


def _show(options: argparse.Namespace) -> None:
    _trust_here(options.trust)
    from kerasft.run import show
    from kerasft.runs.repetition import of_run_or_overrides

    with of_run_or_overrides(options.overrides) as config:
        show(config, output=options.output, epoch=options.epoch, count=options.count,
             views=options.views, config_dirs=options.config_dir, trusted=options.trust)


def _sweep(options: argparse.Namespace) -> None:
    _trust_here(options.trust)
    from kerasft.sweeps import costs
    from kerasft.sweeps.search import plan, sweep

    if options.plan:
        with redirect_stdout(sys.stderr if options.json else sys.stdout):
            outlook = plan(options.overrides, config_dirs=options.config_dir,
                           trusted=options.trust)  # fmt: skip
        if options.json:
            print(json.dumps(outlook.to_dict(), indent=2))
        else:
            costs.tell(outlook)
        return
    sweep(options.overrides, config_dirs=options.config_dir, trusted=options.trust)


def _resume(options: argparse.Namespace) -> None:
    from kerasft.runs import run_folder
    from kerasft.sweeps import ledger

    if ledger.is_sweep(options.run):
        if options.verify or options.accept:
            raise UserError("--verify and --accept are of one run; a sweep goes on without them.")
        from kerasft.sweeps.search import take_up

        _trust_here(options.trust)
        take_up(options.run, options.trust)
        return
    run_folder.unended(options.run)
    _trust_here(options.trust)
    from kerasft.run import resume

    resume(options.run, verify=options.verify, accept=options.accept, trusted=options.trust)


def _trust_here(prefixes: Sequence[str], always: bool = False) -> None:
    """Let what the user trusts be found beside them, behind all that is installed."""
    from kerasft.system.files import current

    if current() is not None and (always or need_current_folder(prefixes)):
        from kerasft.config.sources import find_here

        find_here()


def _evaluate(options: argparse.Namespace) -> None:
    from kerasft.runs import inputs, run_folder

    asked = inputs.asked_of_data(options.overrides)
    run_folder.open_run(options.run)
    from kerasft.run import evaluate

    if options.json:
        asked["say"] = lambda line: None
    _trust_here(options.trust)
    metrics = evaluate(options.run, trusted=options.trust, **asked)
    if options.json:
        print(json.dumps(metrics, indent=2, ensure_ascii=False))


def _predict(options: argparse.Namespace) -> int:
    from kerasft.runs import inputs, predictions
    from kerasft.system.console import beside_output

    predictions.check_asked(options.output, options.inputs, options.data, options.id)
    how = {"output": options.output, "as_json": options.json, "draw": options.draw}
    settings, words = ({}, []) if options.data else inputs.settings(options.inputs)
    wanted = [] if options.data else inputs.inputs(options.model, words)
    from kerasft.run import predict, predict_data

    _trust_here(options.trust)
    if options.data:
        with beside_output():
            answers = predict_data(options.model, options.data, options.inputs, id=options.id,
                                   trusted=options.trust)  # fmt: skip
            return FAILED if predictions.show_all(answers, **how) else OK
    broken: list[str] = []
    rows = predict(options.model, wanted, trusted=options.trust, on_broken=broken.append,
                   generate=settings)  # fmt: skip
    predictions.show(rows, **how, labels=inputs.labels_of(options.model).names)
    predictions.name_broken(broken, len(broken), len(wanted), "images")
    return FAILED if broken else OK


def _export(options: argparse.Namespace) -> None:
    from kerasft.runs import run_folder
    from kerasft.steps.answers.exporting import export_node

    if options.run == BEST and options.overrides:
        from kerasft.sweeps.summary import best_folder

        options.run, *options.overrides = options.overrides
        options.run = str(best_folder(options.run, options.trust))
    run_folder.open_run(options.run)
    _trust_here(options.trust)
    export_node(options.overrides, options.trust)
    from kerasft.run import export

    export(options.run, options.overrides, trusted=options.trust)


def _check(options: argparse.Namespace) -> None:
    _trust_here(options.trust)
    from omegaconf import OmegaConf

    from kerasft.config.checks import settle
    from kerasft.steps.looks.looking import look
    from kerasft.system.console import say

    cfg = settle(options.overrides, options.config_dir, options.trust)
    found = look(cfg)
    if options.show:
        print(OmegaConf.to_yaml(cfg))
    else:
        say(str(found))


def _explain(options: argparse.Namespace) -> None:
    _trust_here((), always=bool(options.config_dir))
    from kerasft.config.explanation import explain

    print(explain(options.key, options.overrides, config_dirs=options.config_dir))


def _step(name: str) -> Callable[[argparse.Namespace], int | None]:
    """Return the act that `run` of a module does."""
    def act(options: argparse.Namespace) -> int | None:
        _trust_here(getattr(options, "trust", ()))
        return importlib.import_module(f"kerasft.{name}").run(options)
    return act


def _models(options: argparse.Namespace) -> None:
    from kerasft.catalogue.network_table import as_text
    from kerasft.config.task_inputs import models
    from kerasft.system.console import say
    from kerasft.system.terminal import columns, is_terminal

    found = models(options.pattern, config_dirs=options.config_dir)
    rows = [row for row in found if row["cached"] or not options.cached]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        raise UserError(
            f"No network matches {options.pattern!r}"
            f"{' and is cached' if options.cached else ''}. `kerasft models` lists all."
        )
    say(as_text(rows, columns() if is_terminal(sys.stdout) else None))


def _cache(options: argparse.Namespace) -> None:
    from kerasft.system.cache import Cache
    from kerasft.system.cache_entry import as_json, as_text

    cache = Cache(options.directory)
    removes = options.what == "clear"
    entries = cache.clear(options.kind) if removes else cache.entries(options.kind)
    text = as_json(entries) if options.json else as_text(entries, cache.directory, removed=removes)
    print(text)


def _leaderboard(options: argparse.Namespace) -> None:
    from kerasft.sweeps import board_rows
    from kerasft.sweeps import leaderboard as boards
    from kerasft.system.console import printable, without_chatter

    boards.check_output(options.output)
    _trust_here(options.trust)
    boards.require_runs(options.directory)
    with without_chatter():  # what TensorFlow has to say
        rows = boards.leaderboard(options.directory, metric=options.metric, trusted=options.trust)
    print(printable(board_rows.as_text(rows)), end="\n\n")
    again = board_rows.again(options.directory, rows, options.trust)
    for line in (*board_rows.remarks(rows), *again):
        print(printable(line))
    if options.output:
        boards.write(rows, options.output, directory=options.directory, trusted=options.trust)


def _verify(options: argparse.Namespace) -> int:
    from kerasft.artifact.layout import find_export
    from kerasft.system.console import printable

    find_export(options.export)
    from kerasft.serving.verify import verify

    found = verify(options.export)
    if options.json:
        print(json.dumps([one.to_dict() for one in found], indent=2))
    else:
        for one in found:
            print(printable(f"{one.result:8} {one.check:11} {one.words}"))
    return FAILED if any(one.result == "FAILED" for one in found) else OK


def _bench(options: argparse.Namespace) -> None:
    from kerasft.serving.options import sizes_of

    sizes = sizes_of(options.batch)
    from kerasft.serving.bench import as_text, bench

    timings, notes = bench(options.export, batches=sizes, seconds=options.seconds,
                           threads=options.threads, onnx=options.onnx)  # fmt: skip
    if options.json:
        print(json.dumps({"timings": [t.to_dict() for t in timings], "notes": notes}, indent=2))
    else:
        print(as_text(timings, notes))


def _serve(options: argparse.Namespace) -> None:
    from kerasft.artifact.layout import versions_of
    from kerasft.serving.server import Settings, serve

    values = {k: v for k, v in vars(options).items() if k in Settings.__dataclass_fields__}
    serve(Settings(options.export, labels=versions_of(options.label), **values))


class Act(NamedTuple):
    """What a command does, and whether it may import TensorFlow, which has much to say."""

    run: Callable[[argparse.Namespace], int | None]
    heavy: bool = False


ACTS: dict[str, Act] = {
    "train": Act(_train, heavy=True),
    "launch": Act(_step("distributed.launching")),
    "show": Act(_show, heavy=True),
    "lr-find": Act(_step("steps.advice.lr_finder"), heavy=True),
    "sweep": Act(_sweep, heavy=True),
    "resume": Act(_resume, heavy=True),
    "evaluate": Act(_evaluate, heavy=True),
    "diagnose": Act(_step("steps.advice.diagnosing"), heavy=True),
    "predict": Act(_predict, heavy=True),
    "export": Act(_export, heavy=True),
    "surgery": Act(_step("steps.looks.surgery_drawn"), heavy=True),
    "probe": Act(_step("steps.advice.probe"), heavy=True),
    "check": Act(_check, heavy=True),
    "explain": Act(_explain),
    "models": Act(_models),
    "cache": Act(_cache),
    "leaderboard": Act(_leaderboard),
    "verify": Act(_verify, heavy=True),
    "bench": Act(_bench, heavy=True),
    "serve": Act(_serve, heavy=True),
}
