"""Where relative paths of a run are looked up.

A command looks in the folder that it is given in. A run that is opened from elsewhere names its
data by paths that are relative to the folder of the command that trained it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from kerasft.errors import UserError
from kerasft.system.files import at_home, current, impossible

_FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())


@contextmanager
def looked_up_in(folders: Iterable[Path]) -> Iterator[None]:
    """Look relative paths up in these folders, in their order, while the block runs.

    Args:
        folders: Absolute paths; without any, the current folder alone counts.

    Example:
        >>> with looked_up_in([Path("/tmp")]):
        ...     print(candidates("films.csv"))
        [PosixPath('/tmp/films.csv')]
    """
    kept = tuple(dict.fromkeys(folders))
    # The current folder alone is what a command looks in anyway.
    token = _FOLDERS.set(() if kept == (current(),) else kept)
    try:
        yield
    finally:
        _FOLDERS.reset(token)


def looked_up() -> tuple[Path, ...]:
    """Return the folders that are set, none where the current one alone counts."""
    return _FOLDERS.get()


def candidates(path: str | os.PathLike) -> list[Path]:
    """Return where a path may lead, the likeliest first; `~` is the home folder."""
    given = at_home(path)
    return [folder / given for folder in _FOLDERS.get()] or [given]


def located(path: str | os.PathLike) -> Path:
    """Return the first place that a path may lead to and that has something.

    Args:
        path: A path; a relative one is looked up in the folders that are set.

    Returns:
        The place; where none has anything, the path itself, with `~` replaced.

    Example:
        >>> located("films.csv")
        PosixPath('films.csv')
    """
    places = candidates(path)
    if len(places) == 1 and not places[0].is_absolute():
        return places[0]
    return next((one for one in places if is_there(one)), at_home(path))


def several(path: str | os.PathLike) -> list[Path]:
    """Return the places that a path may lead to and that have something, where these are many."""
    places = {place.resolve(): place for place in reversed(candidates(path)) if is_there(place)}
    return list(reversed(places.values())) if len(places) > 1 else []


def is_there(place: Path) -> bool:
    """Whether something is at a place; where one cannot look, nothing is.

    Example:
        >>> is_there(Path("/tmp")), is_there(Path("/tmp/" + 300 * "x"))
        (True, False)
    """
    try:
        return place.exists()
    except (OSError, ValueError):
        return False


def whereabouts(path: str | os.PathLike) -> str:
    """Return a sentence on where a path was looked for, where that is more than one place."""
    places = candidates(path)
    if len(set(places)) < 2:
        return ""
    return f" Looked for: {', '.join(repr(str(place)) for place in dict.fromkeys(places))}."


def require_path(path: object, key: str) -> str:
    """Return a path as text, or say of which key it is none.

    Args:
        path: What the config gives.
        key: The config key.

    Raises:
        UserError: If it is no text, or no path can read so.

    Example:
        >>> require_path("network.keras", "backbone.path")
        'network.keras'
    """
    if not isinstance(path, str | os.PathLike) or not str(path).strip():
        raise UserError(f"{key} must be the path of a file or folder. Received: {path!r}.")
    reason = impossible(path)
    try:
        if not reason:
            at_home(path).exists()
    except OSError as error:  # a folder that may not be searched
        reason = error.strerror or str(error)
    if reason:
        shown = str(path) if len(str(path)) <= 80 else f"{str(path)[:80]}..."
        raise UserError(f"{key} cannot be looked up: {reason}. Received: {key}={shown!r}.")
    return str(path)


def origin(run: Path) -> dict[str, object]:
    """Return what a run notes of where it was started, for `folders_of`.

    Args:
        run: Its folder.
    """
    folders = dict.fromkeys((*filter(None, [current()]), *looked_up()))
    return {"folders": [str(folder) for folder in folders], "place": str(run.resolve())}


def folders_of(facts: Mapping[str, object], run: Path) -> list[Path]:
    """Return the folders that the relative paths of a run are looked up in.

    Args:
        facts: What `origin` noted. A folder may come from anywhere, and so may its notes.
        run: Where the run's folder is now.

    Returns:
        The folders that its command looked in, as seen from the run's folder where that has moved,
        then as they were, then the current one. None where nothing is noted.
    """
    noted, place = facts.get("folders"), facts.get("place")
    if not isinstance(noted, list):
        return []
    before = [Path(one) for one in noted if isinstance(one, str) and _is_plain(one)]
    moved: list[Path] = []
    here = run.resolve()
    if isinstance(place, str) and _is_plain(place) and Path(place) != here:
        # A copy of a project reads its own data, not that of the project it was copied from.
        moved = [Path(os.path.normpath(here / os.path.relpath(one, place))) for one in before]
    here_too = filter(None, [current()])
    return list(dict.fromkeys([*moved, *before, *here_too])) if before else []


def _is_plain(path: str) -> bool:
    return path.isprintable() and Path(path).is_absolute()


def output_problem(output: str | None, endings: Sequence[str], told: str) -> str:
    """Say why a file that `--output` names cannot be written, `""` where it can.

    Args:
        output: The file; `None` for none.
        endings: What it may end in.
        told: These, in words.

    Example:
        >>> output_problem("curves.jpg", (".png",), ".png")
        "--output must end in .png. Received: 'curves.jpg'."
    """
    if output is None:
        return ""
    if not output.endswith(tuple(endings)):
        return f"--output must end in {told}. Received: {output!r}."
    folder = Path(output).parent
    return "" if folder.is_dir() else (
        f"--output: there is no folder {str(folder)!r}. Make it first, or choose another place. "
        f"Received: {output!r}."
    )
