"""Writing files so that nothing half-written is ever seen."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from kerasft.errors import UserError
from kerasft.system.enclosure import require_size

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def at_home(path: str | os.PathLike) -> Path:
    """Return a path with `~` and `~name` replaced by the home folder that they stand for.

    Args:
        path: The path.

    Raises:
        UserError: If there is no such user, or no home folder, or no file can be called so.

    Example:
        >>> at_home("data/films.csv")
        PosixPath('data/films.csv')
    """
    if reason := impossible(path):
        raise UserError(f"{_shortened(path)} cannot be looked up: {reason}.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{str(path)!r}: nobody knows the home folder that '~' means here. Write the "
            "path out."
        ) from error


GONE = "The current folder is not there any more. Go to another one first: cd FOLDER"


def current() -> Path | None:
    """Return the current folder, `None` where somebody has removed it."""
    try:
        return Path.cwd()
    except OSError:
        return None


def impossible(path: str | os.PathLike) -> str:
    """Say why no file can be called so, or nothing.

    Example:
        >>> impossible("a.csv"), impossible("a" * 300)
        ('', 'File name too long')
    """
    name = os.fspath(path)
    encoded = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    if b"\0" in encoded:
        return "a path holds no NUL character"
    # What the file systems of Linux, macOS and Windows take in one name, and Linux in a path.
    if len(encoded) > 4000 or any(len(part) > 255 for part in encoded.split(b"/")):
        return os.strerror(errno.ENAMETOOLONG)
    return ""


def _shortened(path: str | os.PathLike) -> str:
    shown = str(path)
    return repr(shown if len(shown) <= 80 else f"{shown[:80]}...")


def sync(path: Path) -> None:
    """Wait until what a file holds, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written_whole(path: str | Path, *, own: bool = False) -> Iterator[Path]:
    """Write a file beside its place, and at the end have it on the disk and rename it into place.

    Args:
        path: Where the file shall be.
        own: Whether other processes may write the same file at the same time.

    Yields:
        The path to write to, with the same suffix.

    Raises:
        UserError: If it cannot be written: full disk, no permission.

    Example:
        >>> with written_whole("metrics.json") as part:
        ...     _ = part.write_text("{}")
    """
    path = Path(path)
    mine = f"-{os.getpid()}" if own else ""
    part = path.with_name(f".{path.stem}{mine}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_new(part)
        yield part
        sync(part)
        part.replace(path)
        with suppress(OSError):  # some systems open no folders, and some sync none
            sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # below a file, say
            part.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UserError(f"{str(path)!r} could not be written: {reason}.") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _make_new(path: Path) -> None:
    """Make an empty file, and remove what a process that was ended left in its place.

    Or what somebody put there: a link, so that another file would be written.
    """
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))


def appending(path: Path) -> TextIO:
    """Open a file to write at its end, and make it and its folder where there is none.

    Args:
        path: The file. A link is not followed: a folder may come from anywhere.

    Returns:
        The open file, which takes UTF-8.

    Raises:
        OSError: If it cannot be opened.
        UserError: If it is a link, a pipe or a device.

    Example:
        >>> with appending(Path("log.txt")) as file:
        ...     _ = file.write("one line")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without waiting for whoever might read a pipe.
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
    odd = UserError(
        f"{str(path)!r} is not written to: it is a link, a pipe or a device. Remove it first."
    )
    try:
        handle = os.open(path, how, 0o666)
    except OSError as error:
        raise (odd if error.errno in (errno.ELOOP, errno.ENXIO) else error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise odd
    return open(handle, "a", encoding="utf-8")


# Of renameat2 in Linux: paths that begin at the working folder; two names change places.
_AT_FDCWD, _EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Let two folders or files change places in one step, so that neither is ever missing.

    Args:
        one: The first.
        other: The second, on the same disk.

    Returns:
        Whether that was done: not every system and file system can.
    """
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    return not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)


# The disk is full, the quota is used up, the file system is read-only or takes no file so large.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk took no more, or nothing at all."""
    if isinstance(error, UserError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    # TensorFlow's errors carry no number.
    return isinstance(error, Exception) and "No space left on device" in str(error)


_BROKEN = "Input/output error"


def _is_of_the_device(error: BaseException) -> bool:
    """Whether a device failed to take or to give what it should."""
    if isinstance(error, OSError):
        return error.errno == errno.EIO
    return isinstance(error, Exception) and _BROKEN in str(error)


@contextmanager
def disk_space_in(folder: str | Path) -> Iterator[None]:
    """Say in one sentence when a disk does not take what is written inside the block.

    What writes through `written_whole` says so itself; this catches what libraries write:
    tokenizers, event files, images.

    Args:
        folder: The folder that is written to, for the message.

    Raises:
        UserError: If it takes no more.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_of_the_device(error):
            where = getattr(error, "filename", None) or folder
            raise UserError(
                f"{str(where)!r} could not be read or written: {_BROKEN}. The disk or its "
                "connection fails: the system's log says more. Choose another folder meanwhile."
            ) from error
        if not is_disk_full(error):
            raise
        reason = getattr(error, "strerror", None) or "No space left on device"
        raise UserError(
            f"{str(folder)!r} could not be written: {reason}. Free some space, "
            "or choose another folder."
        ) from error


def write_json(
    path: str | Path, value: object, *, own: bool = False, indent: int | None = 2
) -> None:
    """Write a value as JSON; numbers that JSON has no word for become null.

    Args:
        path: Where the file shall be.
        value: The value.
        own: See `written_whole`.
        indent: By how much each level is set in; `None` writes one line, many times as fast.
    """
    with written_whole(path, own=own) as part:
        text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike, *keys: str, most: int = 2**31) -> dict[str, Any]:
    """Read a JSON object that a run wrote, or say which file is missing or broken.

    Args:
        path: The file.
        *keys: What must stand in it.
        most: How many bytes it may have.

    Returns:
        The object.

    Raises:
        UserError: If the file is missing, broken, too large, or holds something else.
    """
    require_size(path, most)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"The file {str(path)!r} is missing: the folder is no run of kerasft, or not whole."
        ) from error
    except OSError as error:
        raise UserError(
            f"The file {str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"The file {str(path)!r} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"The file {str(path)!r} is damaged: it must hold one JSON object.")
    if missing := [key for key in keys if key not in found]:
        raise UserError(f"The file {str(path)!r} is damaged: it lacks {', '.join(missing)}.")
    return found


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and value - value != 0:
        return None
    return value
