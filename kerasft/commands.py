"""The commands and their options, as `kerasft --help` shows them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache

from kerasft import __version__
from kerasft.config.leads import without_dashes
from kerasft.system.cache import KINDS
from kerasft.system.passwords import override_shown


@cache
def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="kerasft",
        description="Fine-tune pretrained Keras networks on your own data.",
        epilog="Every command has its own --help with an example.",
    )
    parser.add_argument("--version", action="version", version=f"kerasft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=summary, description=summary, epilog=f"example:\n{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made

    made = command(
        "train", "Fine-tune a network: KEY=VALUE overrides choose the parts.",
        "  kerasft train\n"
        "  kerasft train data=image_folder data.path=photos backbone=applications \\\n"
        "      backbone.name=MobileNetV2 head=mlp finetune=two_phase\n"
        "  kerasft train -m optimizer.learning_rate=1e-4,3e-4 head=linear,mlp\n"
        "  kerasft train --plan experiment=sst2_minilm data.path=train.tsv",
    )
    _config_options(made)
    made.add_argument("-m", "--multirun", action="store_true",
                      help="a run for each combination of the values given")
    made.add_argument("--from", dest="source", metavar="RUN",
                      help="repeat a run with its own config; overrides change it")
    made.add_argument("--plan", action="store_true",
                      help="measure a few steps and estimate the cost of the run; train nothing")
    made.add_argument("--json", action="store_true", help="with --plan: print the plan as JSON")
    made.add_argument("--trainable", action="store_true",
                      help="show what trains in each stage, at which rates; train nothing")

    made = command(
        "launch", "Train with several processes on this machine, started again when one is lost.",
        "  kerasft launch -n 2 -- train experiment=sst2_minilm data.path=train.tsv",
    )
    made.add_argument("-n", dest="workers", type=int, default=2, metavar="N",
                      help="how many processes (default 2)")
    made.add_argument("--restarts", type=int, default=3, metavar="N",
                      help="how often all are started again, from the last checkpoint (default 3)")
    made.add_argument("arguments", metavar="-- COMMAND", nargs=argparse.REMAINDER,
                      help="`train` or `resume` with all that follows it; distribute=multi_worker, "
                      "resume=auto and an output_dir are added where they are not given")

    made = command(
        "show", "Show training examples as the network sees them, and the labels it is trained on.",
        "  kerasft show data=image_folder data.path=photos augment=strong --views 4\n"
        "  kerasft show experiment=bccd_mobilenet --epoch 3 --output cells.png\n"
        "  kerasft show experiment=sst2_minilm --count 5 --output texts.txt\n"
        "  kerasft show outputs/last --count 3",
    )
    _config_options(made)
    made.add_argument("--output", metavar="FILE",
                      help="the .png file for images (default show.png), which are drawn after "
                      "augmentation with their classes, boxes or masks; a .txt file for texts, "
                      "which are printed as tokens with what is cut off")
    made.add_argument("--epoch", type=int, default=0, metavar="N",
                      help="whose first examples and whose augmentation are shown (default 0)")
    made.add_argument("--count", "--examples", type=int, default=12, metavar="N",
                      help="how many examples (default 12)")
    made.add_argument("--views", type=int, default=1, metavar="N",
                      help="show the same images in so many epochs, a row each (default 1)")

    made = command(
        "lr-find", "Suggest a learning rate for each stage by a range test; train nothing.",
        "  kerasft lr-find finetune=two_phase\n"
        "  kerasft lr-find experiment=sst2_minilm --output rates.png",
    )
    _config_options(made)
    made.add_argument("--output", metavar="FILE", default="lr_find.png",
                      help="the .png file with the curves (default lr_find.png); the values go "
                      "into a .json file beside it")
    made.add_argument("--rule", choices=["auto", "valley", "steep", "lowest"], default="auto",
                      help="what reads the rate off the curve (default auto: valley for a head "
                      "alone, else lowest)")
    made.add_argument("--start", type=float, default=1e-7, metavar="RATE",
                      help="the first rate (default 1e-7)")
    made.add_argument("--end", type=float, default=10.0, metavar="RATE",
                      help="the last rate, unless the loss diverges before (default 10)")
    made.add_argument("--updates", type=int, metavar="N",
                      help="from the first rate to the last (default: an epoch's, from 60 to 100)")
    made.add_argument("--json", action="store_true", help="print as JSON")

    made = command(
        "sweep", "Search for settings: many runs; those that lag behind are pruned.",
        "  kerasft sweep 'optimizer.learning_rate=tag(log,interval(1e-5,1e-3))' head=linear,mlp\n"
        "  kerasft sweep sweep=text experiment=sst2_minilm sweep.n_trials=30 sweep.workers=2\n"
        "  kerasft sweep sweep=grid optimizer.learning_rate=1e-4,3e-4 seed=0,1,2",
    )
    _config_options(made)
    made.add_argument("--plan", action="store_true",
                      help="measure a few settings and estimate what the sweep would cost")
    made.add_argument("--json", action="store_true", help="with --plan: print the plan as JSON")

    made = command(
        "resume", "Resume a run or a sweep that was stopped or crashed.",
        "  kerasft resume outputs/last\n  kerasft resume outputs/last --verify",
    )
    made.add_argument("run", metavar="RUN", help="a run folder, or a sweep's")
    made.add_argument("--verify", action="store_true",
                      help="first do the steps before the last checkpoint again, and compare")
    made.add_argument("--accept", action="store_true",
                      help="go on even though the data has changed since")
    _trust_option(made)

    made = command(
        "evaluate", "Measure a run again on its data.",
        "  kerasft evaluate outputs/last split=test\n"
        "  kerasft evaluate outputs/last 'slices=[language,length]'",
    )
    made.add_argument("run", metavar="RUN", help="a run folder")
    _overrides(made, "split=train|validation|test; slices=[COLUMN,...] for figures by the values "
               "of columns")
    _trust_option(made)
    made.add_argument("--json", action="store_true", help="print the metrics as JSON")

    made = command(
        "diagnose", "Diagnose a run, and suggest overrides that may help.",
        "  kerasft diagnose outputs/last\n  kerasft diagnose outputs/last --stored --json",
    )
    made.add_argument("run", metavar="RUN", help="a run folder, of a run that has ended or not")
    made.add_argument("--stored", action="store_true",
                      help="go by what the run folder holds; measure nothing that it lacks")
    made.add_argument("--json", action="store_true", help="print as JSON")
    _trust_option(made)

    made = command(
        "predict", "Answer raw input with a run or an exported SavedModel.",
        '  kerasft predict outputs/last "a fine film"\n'
        "  kerasft predict outputs/last/exports/saved_model photo.jpg folder_of_photos\n"
        "  kerasft predict outputs/last --data test.csv --output answers.csv\n"
        "  kerasft predict outputs/last --data 'shards/test-*.parquet' --output answers.parquet",
    )
    made.add_argument("model", metavar="RUN_OR_EXPORT", help="a run folder or an export")
    made.add_argument("inputs", metavar="INPUT", nargs="*",
                      help="texts (pairs with a tab between), images, folders of images; "
                           "@FILE for a file with one text a line; - for lines of standard input; "
                           "@@TEXT for a text that begins with @; with --data data.KEY=VALUE where "
                           "the table is written otherwise than that of the run")
    made.add_argument("--data", metavar="FILE",
                      help="answer all rows of a table, of a pattern or of a folder of "
                           "tables, with the run's own columns, or all images of a folder or zip")
    made.add_argument("--id", metavar="COLUMN",
                      help="with --data: the column with the id of each row (default: the one "
                           "called id, else the place in the file)")
    _trust_option(made)
    made.add_argument("--output", metavar="FILE",
                      help="write to a .csv, .jsonl or .parquet file instead of the console")
    made.add_argument("--json", action="store_true", help="print one JSON object an input")
    made.add_argument("--draw", metavar="DIR",
                      help="write each image with the objects that were found in it")

    made = command(
        "export", "Export a run for TF Serving, and verify what was written.",
        "  kerasft export outputs/last export=saved_model\n"
        "  kerasft export best-of outputs/digits/2026-11-23_20-48-53_sweep",
    )
    made.add_argument("run", metavar="RUN", help="a run folder, or best-of and a sweep's folder")
    _overrides(made, "overrides of the export group")
    _trust_option(made)

    made = command(
        "verify", "Check all that an export promises, offline.",
        "  kerasft verify outputs/last/exports/saved_model",
    )
    made.add_argument("export", metavar="EXPORT", help="an export: all its versions, or one")
    made.add_argument("--json", action="store_true", help="print as JSON")

    made = command(
        "bench", "Time an export by batch size, and beside onnxruntime.",
        "  kerasft bench outputs/last/exports/saved_model --batch 1,8,32",
    )
    made.add_argument("export", metavar="EXPORT", help="an export: all its versions, or one")
    made.add_argument("--batch", default="1,8,32", metavar="N,N,...", help="batch sizes")
    made.add_argument("--seconds", type=float, default=10.0, metavar="N",
                      help="how long each is timed (default 10)")
    made.add_argument("--threads", type=int, metavar="N",
                      help="threads of an operation (default: all cores)")
    made.add_argument("--onnx", action=argparse.BooleanOptionalAction,
                      help="time the network under onnxruntime, too (default: where it is there)")
    made.add_argument("--json", action="store_true", help="print as JSON")

    made = command(
        "serve", "Serve an export over REST and gRPC, to try a client without a container.",
        "  kerasft serve outputs/last/exports/saved_model --rest-port 8501 --grpc-port 8500",
    )
    made.add_argument("export", metavar="EXPORT", help="an export: all its versions, or one")
    made.add_argument("--name", help="the model's name (default: the one in its signature.json)")
    made.add_argument("--host", default="127.0.0.1", help="the address (default 127.0.0.1)")
    for api, port in (("rest", 8501), ("grpc", 8500)):
        made.add_argument(f"--{api}-port", type=int, default=port, metavar="PORT",
                          help=f"default {port}; 0 takes any that is free")
        made.add_argument(f"--no-{api}", dest=f"{api}_port", action="store_const", const=None,
                          help=f"do without {'REST' if api == 'rest' else 'gRPC'}")
    made.add_argument("--label", action="append", default=[], metavar="LABEL=VERSION",
                      help="a label for a version, which is then served beside the newest")
    for option, kind, default, text in (
        ("poll", float, 2.0, "seconds between two looks for new versions"),
        ("batch", int, 32, "the most examples that are answered together"),
        ("wait-ms", float, 2.0, "how long the first request of a batch waits for others"),
        ("waiting", int, 1000, "how many examples may wait before requests are turned away"),
        ("most-mb", float, 64.0, "the largest request, in millions of bytes"),
        ("timeout", float, 60.0, "the most seconds that a request may take, its reading too"),
        ("threads", int, None, "threads of an operation (default: all cores)"),
    ):
        more = "" if default is None else f" (default {default:g})"
        made.add_argument(f"--{option}", type=kind, default=default, metavar="N",
                          help=f"{text}{more}")
    made.add_argument("--allowed-host", dest="allowed_hosts", action="append", default=[],
                      metavar="NAME",
                      help="a name of this machine that REST is asked under, beside its own; "
                      "* for all")
    made.add_argument("--verbose", action="store_true", help="log each request")

    made = command(
        "check", "Check a config, then whether paths, columns and parts fit; read no data.",
        "  kerasft check experiment=sst2_minilm optimizer.learning_rate=1e-4",
    )
    _config_options(made)
    made.add_argument("--show", action="store_true", help="print the composed config")

    made = command(
        "surgery", "Print a backbone as a tree, before and after the steps of surgery.",
        "  kerasft surgery backbone=tiny_bert\n"
        "  kerasft surgery backbone=tiny_bert surgery=cut surgery.cut.layer=transformer_layer_0 "
        "--dry-run",
    )
    _config_options(made)
    made.add_argument("--dry-run", action="store_true",
                      help="what the command does with and without it: no data is read, no weights "
                      "are loaded, nothing is trained or written")

    made = command(
        "probe", "Compare backbones by a linear head on their features; train none.",
        "  kerasft probe data=image_folder data.path=photos backbone=applications \\\n"
        "      backbone.name=MobileNetV2,EfficientNetV2B0\n"
        "  kerasft probe data=table data.path=texts.csv data.text=text data.label=label \\\n"
        '      --backbone "backbone.preset=bert_tiny_en_uncased" --backbone "backbone=tiny_gpt2"',
    )
    _config_options(made)
    made.add_argument("--backbone", action="append", default=[], metavar="OVERRIDES",
                      help="a backbone as overrides with spaces between them (may be repeated), "
                      "beside backbone=A,B and backbone.KEY=A,B")
    made.add_argument("--size", type=int, default=2000, metavar="N",
                      help="the most training and the most validation examples (default 2000)")
    made.add_argument("--depths", type=int, default=3, metavar="N",
                      help="at how many depths, all of it among them (default 3)")
    made.add_argument("--output", default="probe.json", metavar="FILE",
                      help="the file of the table (default probe.json)")

    made = command(
        "explain", "Say what is behind a key, and who set its values.",
        "  kerasft explain head=mlp\n  kerasft explain optimizer.weight_decay",
    )
    made.add_argument("key", metavar="KEY", help="a key, or a choice such as head=mlp")
    _config_options(made, trust=False)

    made = command(
        "models", "List the pretrained networks there are, offline.",
        "  kerasft models mobilenet",
    )
    made.add_argument("pattern", metavar="PATTERN", nargs="?", default="",
                      help="a part of a name, family or input (text, images)")
    made.add_argument("--cached", action="store_true", help="only those that are on this machine")
    _config_dir_option(made)
    made.add_argument("--json", action="store_true", help="print as JSON")

    made = command(
        "cache", "List what is kept between runs, or remove it.",
        "  kerasft cache\n  kerasft cache clear activations",
    )
    made.add_argument("what", metavar="list|clear", nargs="?", default="list",
                      choices=["list", "clear"], help="list (the default) or clear")
    made.add_argument("kind", metavar="KIND", nargs="?", choices=KINDS,
                      help=f"only one kind: {', '.join(KINDS)}")
    made.add_argument("--directory", metavar="DIR", help="the cache.directory of the runs")
    made.add_argument("--json", action="store_true", help="print as JSON")

    made = command(
        "leaderboard", "Compare the runs below a folder, the best first.",
        "  kerasft leaderboard outputs --metric f1_macro --output runs.csv\n"
        "  kerasft leaderboard outputs/films_sweep --output films.html",
    )
    made.add_argument("directory", metavar="DIR", help="a sweep, or a folder of runs")
    made.add_argument("--metric", help="the validation metric to rank by")
    made.add_argument("--output", metavar="FILE",
                      help="also write a .csv or .json file, or a page with plots (.html)")
    _trust_option(made)
    return parser



def _overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help=text)


def _config_options(parser: argparse.ArgumentParser, *, trust: bool = True) -> None:
    _overrides(parser, "overrides: GROUP=CHOICE or KEY=VALUE; `kerasft explain KEY` explains")
    _config_dir_option(parser)
    if trust:
        _trust_option(parser)


def _config_dir_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR",
                        help="a folder with configs of your own (may be repeated)")


def _trust_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="append", default=[], metavar="PREFIX",
                        help="an import prefix that a _target_ may start with too")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line; one that is none ends the program with status 2.

    Args:
        argv: The words after `kerasft`; those of this process without.
    """
    parser = make_parser()
    options, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    if unknown or (rest and not {"overrides", "inputs"} & {*vars(options)}):
        word = (unknown or rest)[0]
        composes = "config_dir" in vars(options)  # takes overrides of a run
        meant = without_dashes(argv or sys.argv[1:], word) if composes else ""
        see = meant or f"see kerasft {options.command} --help"
        parser.error(f"unknown {'option' if unknown else 'argument'} {override_shown(word)}; {see}")
    for name in {"overrides", "inputs"} & {*vars(options)}:  # behind options
        setattr(options, name, [*getattr(options, name), *rest])
    return options
