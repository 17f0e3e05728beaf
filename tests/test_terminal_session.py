"""Commands on a real terminal, of 80 and of 140 columns: what is seen, and what is left."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there are no such terminals", allow_module_level=True)

from screen import kerasft, shown

pytestmark = pytest.mark.slow

EPOCHS = 3
# Steps that are short, but not so few that no bar is drawn.
WORDS = (
    "train", "backbone=tiny_resnet", "backbone.image_size=16", "data.train_per_class=30",
    "data.test_per_class=10", "batch_size=4", "baseline=null", "floor=none", "plots=false",
)  # fmt: skip
BAR = re.compile("[━─]")


def sentences(lines: list[str]) -> str:
    """Return lines as one text, those of a sentence that was broken put together again."""
    return " ".join(" ".join(lines).split())


def test_the_screen_of_these_tests():
    left, ever = shown("a\r\nbar\r\x1b[K\x1b[32mb\x1b[0m", 80)
    assert left == ["a", "b"] and "bar" in ever
    assert shown("abc\rx", 80)[0] == ["xbc"]
    assert shown("abcd", 3)[0] == ["abc", "d"]


@pytest.mark.parametrize("width", [80, 140])
def test_a_run_leaves_one_line_an_epoch_and_nothing_of_the_bar(width):
    terminal = kerasft(width, *WORDS, f"epochs={EPOCHS}")
    assert terminal.end() == 0
    left, ever = shown(terminal.written, width)
    said = "\n".join(left)
    assert not BAR.search(said), said
    # What wider lines would go on as is no line of ours: each sentence is broken between words.
    written = re.sub(r"\x1b\[[0-9;]*[mK]", "", terminal.written)
    wide = [line for line in re.split(r"[\r\n]+", written) if len(line) > width]
    assert not wide
    epochs = [line for line in left if line.startswith("epoch ")]
    assert [line.split("/")[0] for line in epochs] == [f"epoch {i + 1}" for i in range(EPOCHS)]
    assert all("val_accuracy" in line and line.endswith(" s)") for line in epochs)
    assert ("loss" in epochs[0] and "accuracy 0." in epochs[0]), epochs
    assert left[0].startswith("data: 300 train")
    assert "run folder: outputs/digits/" in said
    # What came and went.
    assert any(line.startswith("loading TensorFlow") for line in ever)
    assert any("compiling the training step" in line for line in ever)
    bars = [line for line in ever if BAR.search(line)]
    assert len(bars) >= EPOCHS
    assert all(line.startswith("epoch ") and len(line) <= width - 3 for line in bars)
    assert any(line.endswith(" left") for line in bars)


@pytest.mark.parametrize("width", [80, 140])
def test_ctrl_c_saves_and_says_how_to_go_on(width, tmp_path):
    folder = Path("runs") / "stopped by the keyboard"
    terminal = kerasft(width, *WORDS, "epochs=1000", "callbacks=none", f"output_dir={folder}")
    # While a bar is drawn.
    terminal.read(lambda said: "epoch 2/" in said and said.endswith(" left"))
    terminal.press("\x03")
    assert terminal.end() == 130
    left, _ = shown(terminal.written, width)
    said = "\n".join(left)
    assert not BAR.search(said) and "^C" not in said, said
    stopping = next(i for i, line in enumerate(left) if line.startswith("SIGINT"))
    ended = sentences(left[stopping:])
    assert ended.startswith("SIGINT: finishing the step and saving; Ctrl-C once more ends the run")
    assert re.search(r"SIGINT: stopped after \d+ epochs? and \d+ steps?\. To go on: ", ended), ended
    # The command stands in one line, to be copied.
    assert any(line.endswith(f"kerasft resume '{folder}'") for line in left), said
    assert list((folder / "checkpoints" / "states").iterdir())
    assert "epoch 1/1000" in said
