"""What all plots share: size, colours, names that can be drawn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, GREEN = "#1f5fa8", "#d9701e", "#8a8f98", "#2b8a4b"
DPI = 130


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches."""
    # Drawn without pyplot, which keeps figures in a global state and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, and return the file."""
    with written_whole(path) as part:
        figure.savefig(part, dpi=DPI)
    return Path(path)


def tidy(axes: Axes) -> None:
    """Draw a light grid, and no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e9ecef", linewidth=0.8)
    axes.set_axisbelow(True)


def short(value: float) -> str:
    """Return a figure with as many digits as are of use."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.5g}"


def ticks_of(names: Sequence[str], most: int) -> list[str]:
    """Return the class names as they can be drawn, with their number where letters are missing."""
    has = _letters()
    return [
        readable(name, most)
        if all(ord(letter) in has for letter in "".join(name.split()))
        else f"{place}: {readable(name, most)}"
        for place, name in enumerate(names)
    ]


def readable(name: str, most: int = 40) -> str:
    """Return a name that Matplotlib can draw: as `drawable` has it, and without markup."""
    return drawable(name, most).replace("$", r"\$")  # a dollar sign would start a formula


def drawable(name: str, most: int = 40) -> str:
    """Return a name that can be drawn: short, on one line, in letters that there are.

    A run of letters that the font lacks (it has no Bengali, Thai or Chinese) is drawn as the code
    of its first one, `U+0995...`, rather than as boxes.
    """
    has = _letters()
    drawn = ""
    missing: list[str] = []
    for character in [*" ".join(name.split()), ""]:
        if character and ord(character) not in has:
            missing.append(character)
            continue
        if missing:
            drawn += f"U+{ord(missing[0]):04X}" + ("..." if len(missing) > 1 else "")
            missing = []
        drawn += character
    return drawn if len(drawn) <= most else drawn[: most - 1] + "…"


@functools.lru_cache(maxsize=8)
def font(height: int) -> Any:
    """Return the default font of plots for Pillow, so many pixels high."""
    from PIL import ImageFont

    return ImageFont.truetype(_font_file(), height)


@functools.lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """Return the code points that the default font can draw."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(_font_file()).get_charmap())


def _font_file() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties())
