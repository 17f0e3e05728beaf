"""What all tests share: no network, folders of their own, and two small runs made once."""

from __future__ import annotations

import csv
import gc
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import masked_rectangles as masked
import pytest
from hypothesis import settings
from once import made_once, returned, trained_once
from rectangles import draw_all, words_of

# The same examples in each run. `pytest --hypothesis-profile=thorough` draws other ones, and many.
settings.register_profile("same", deadline=None, derandomize=True, database=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=3000, print_blob=True)
settings.load_profile("same")

# Each folder of a test has a number.
_folders = itertools.count()
# The folders whose tests are short.
SHORT = ("artifact", "bad_input", "config", "data", "evaluation", "runs", "system")
# 30 texts of each class, told apart by one word.
GOOD = ("good", "fine", "warm", "great", "bright")
BAD = ("bad", "dull", "cold", "poor", "grey")


def pytest_configure(config):
    """Set what TensorFlow, Keras and Matplotlib read when they are imported."""
    gc.set_threshold(100_000, 50, 1000)  # as the command line does
    place = tempfile.mkdtemp(prefix="kerasft-tests-")
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Several processes share the cores; their threads would only wait for one another.
        os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    config.kerasft_place = place
    os.environ |= {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": f"{place}/matplotlib",
        "KERASFT_CACHE": f"{place}/cache",
        "HF_HUB_OFFLINE": "1",
    }
    if "PYTEST_XDIST_WORKER" in os.environ and config.getoption("markexpr") == "not slow":
        # TensorFlow's graph optimizer takes longer than the tiny graphs that it optimizes. The slow
        # tests run with it, as all processes of their own that tests start.
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        # Nor is it asked of each operation of a graph from where in Python it comes: below Pytest
        # the answer is long, and takes a tenth of tracing. One stack stands for all.
        from tensorflow.python.util import tf_stack

        here = tf_stack.extract_stack()
        tf_stack.extract_stack = lambda stacklevel=1: here


def pytest_collection_finish():
    """Leave what was imported out of all looks for garbage: it is most of what there is."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before the slow ones are taken out
def pytest_collection_modifyitems(items):
    """Put whole journeys first, short tests last, and mark as slow what `every` leaves out."""
    # A file of few long tests that comes last would leave one of two processes without work.
    here = Path(__file__).parent
    short = {here / name for name in SHORT}
    items.sort(key=lambda item: (item.path.parent != here, not short.isdisjoint(item.path.parents)))
    seen = Counter()
    for item in items:
        if mark := item.get_closest_marker("every"):
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[test] += 1


def pytest_unconfigure(config):
    shutil.rmtree(config.kerasft_place, ignore_errors=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `$KERASFT_DATA`, or `../shared/data` beside the checkout."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("KERASFT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set KERASFT_DATA)")
    return folder


def texts() -> list[tuple[str, str]]:
    """Return 60 short texts, each with its label."""
    return [
        (f"a {word} film, number {i}", label)
        for i in range(6)
        for label, words in (("pos", GOOD), ("neg", BAD))
        for word in words
    ]


def write_csv(path: Path, rows: list[tuple], header: tuple[str, ...]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def texts_csv(tmp_path_factory) -> Path:
    """A table of 60 texts in two classes, with the columns `text` and `label`."""
    return made_once(
        tmp_path_factory, "texts_csv",
        lambda folder: write_csv(folder / "texts.csv", texts(), ("text", "label")),
    ) / "texts.csv"  # fmt: skip


@pytest.fixture
def tmp_path(tmp_path_factory, request) -> Path:
    """A folder of a test's own, as Pytest has it, which looks through all of them for each."""
    place = tmp_path_factory.getbasetemp() / "t"
    place.mkdir(mode=0o700, exist_ok=True)
    name = re.sub(r"\W", "_", request.node.name)[:24]
    path = place / f"{name}{next(_folders)}"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let each test run in a folder of its own, so that `outputs/` never lies in the checkout.

    Modules that a test wrote there and imported are forgotten: another test may have its own by
    the same name.
    """
    monkeypatch.chdir(tmp_path)
    known = len(sys.modules)
    yield
    for name in list(sys.modules)[known:]:  # in the order in which they were imported
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def kerasft_cli(capsys):
    """Return a function that runs a command in this process: exit status, output, errors."""
    from kerasft.cli import main

    def run(*argv: str) -> SimpleNamespace:
        capsys.readouterr()
        try:
            code = main(list(argv))
        except SystemExit as ended:  # argparse, for --help and for what it cannot parse
            code = ended.code
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return run


# The smallest settings under which every part still does something.
TINY_IMAGES = (
    "backbone=tiny_resnet", "backbone.image_size=16", "data.train_per_class=3",
    "data.validation_per_class=2", "data.test_per_class=10", "batch_size=15",
    "eval_batch_size=256", "epochs=2", "baseline=null", "floor=none", "plots=false",
    "progress=false",
)  # fmt: skip
TINY_TEXTS = (
    "data=table", "data.text=text", "data.label=label", "backbone=tiny_bert",
    "backbone.sequence_length=24", "backbone.layers=1",
    "batch_size=8", "epochs=2", "floor=none", "plots=false", "progress=false",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_images() -> tuple[str, ...]:
    """Overrides of a run on a few digits that takes seconds."""
    return TINY_IMAGES


@pytest.fixture(scope="session")
def tiny_texts(texts_csv) -> tuple[str, ...]:
    """Overrides of a run on sixty texts that takes seconds."""
    return (*TINY_TEXTS, f"data.path={texts_csv}")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_images) -> Path:
    """The folder of a finished run on images, with plots; copy it to change it."""
    return trained_once(tmp_path_factory, "images", *tiny_images, "plots=true")


@pytest.fixture(scope="session")
def tiny_result(tmp_path_factory, tiny_images, tiny_run):
    """What `kerasft.train` returned for a few digits; where only the folder matters: `tiny_run`."""
    return returned(tmp_path_factory, "images", *tiny_images)


@pytest.fixture(scope="session")
def tiny_text_run(tmp_path_factory, tiny_texts) -> Path:
    """The folder of a finished run on texts, with plots; copy it to change it."""
    return trained_once(tmp_path_factory, "texts", *tiny_texts, "plots=true")


@pytest.fixture(scope="session")
def tiny_text_result(tmp_path_factory, tiny_texts, tiny_text_run):
    """What `kerasft.train` returned for sixty texts; see `tiny_result`."""
    return returned(tmp_path_factory, "texts", *tiny_texts)


@pytest.fixture(scope="session")
def tiny_text_export(tmp_path_factory, tiny_text_run) -> Path:
    """The export of that run on texts, a folder of versions; copy it to change it."""
    import kerasft

    def export(folder: Path) -> None:
        kerasft.export(str(tiny_text_run), [f"export.saved_model.directory={folder / 'texts'}"])

    return made_once(tmp_path_factory, "text_export", export) / "texts"


@pytest.fixture(scope="session")
def rectangles(tmp_path_factory) -> Path:
    """A folder of images of rectangles with their boxes, in COCO's form."""
    return made_once(tmp_path_factory, "rectangles", draw_all)


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory, rectangles) -> Path:
    """The folder of a finished run that finds rectangles; copy it to change it."""
    return trained_once(tmp_path_factory, "detector", *words_of(rectangles))


@pytest.fixture(scope="session")
def masked_rectangles(tmp_path_factory) -> Path:
    """Images with red and green rectangles and masks of them; copy the folder to change it."""
    return made_once(tmp_path_factory, "masked_rectangles", masked.draw_all)


@pytest.fixture(scope="session")
def tiny_segmenter(tmp_path_factory, masked_rectangles) -> Path:
    """The folder of a finished run that tells the classes of pixels; copy it to change it."""
    return trained_once(tmp_path_factory, "segmenter", *masked.words_of(masked_rectangles))
