"""A disk cache: whole entries, shared between processes, limited in size."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from kerasft.errors import UserError, in_short
from kerasft.system import cache_entry, cache_ownership
from kerasft.system.cache_entry import ABOUT, Entry
from kerasft.system.cache_ownership import KINDS, cache_folder
from kerasft.system.checksums import Damaged
from kerasft.system.console import listing, say, warn
from kerasft.system.files import is_disk_full
from kerasft.system.folders import located

T = TypeVar("T")

# Part of every key: what older versions wrote in another form is never read, and ages.
FORMAT = 2
GIGABYTE = 10**9
# Seconds for another process with the same entry before a word is said.
PATIENCE = 2.0
# Seconds that the clocks of machines with one cache may be apart.
_APART = 60.0


class CacheError(Exception):
    """Something could not be kept. The run can go on without: it costs time, not results."""


class Cache:
    """A folder whose entries are found by what they are made of.

    An entry is a folder of files. It is written beside its place, synced, and renamed: one that
    was not finished is never read. Each file has checksums, which are compared when the entry is
    opened; one that is damaged is made again. Processes that want the same entry wait for the
    first one to make it. When the entries exceed the limit, those that were not used for the
    longest go.

    Args:
        directory: The folder; `None` means `$KERASFT_CACHE` or `~/.cache/kerasft`.
        limit_gb: The most that the entries together may hold, in 10^9 bytes; `.inf` for no limit.
        activations: Whether what frozen layers compute is kept too: `"auto"` where that pays,
            `"always"` or `"never"`.
        views: How many augmented views of an image are kept with `activations`; they are drawn
            in turn.

    Raises:
        UserError: If a value is out of its range.

    Example:
        >>> cache = Cache("cache")
        >>> def write(folder):
        ...     _ = (folder / "rows.txt").write_text("one")
        >>> def read(folder):
        ...     return (folder / "rows.txt").read_text()
        >>> cache.get("texts", {"rows": 1}, write=write, read=read, about="1 text")
        'one'
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        limit_gb: float = 20.0,
        activations: Literal["auto", "always", "never"] = "auto",
        views: int = 4,
    ):
        if activations not in ("auto", "always", "never"):
            raise UserError(
                "cache.activations must be 'auto', 'always' or 'never'. "
                f"Received: {activations!r}."
            )
        if views < 1 or not limit_gb > 0:
            raise UserError(
                "cache.views must be at least 1 and cache.limit_gb above 0. Received: "
                f"views={views}, limit_gb={limit_gb}."
            )
        self.directory = located(directory) if directory else cache_folder() / "prepared"
        self.limit = sys.maxsize if math.isinf(limit_gb) else int(limit_gb * GIGABYTE)
        self.activations, self.views = activations, views
        # Files that were compared with their checksums, as they were then.
        self._compared: dict[Path, tuple[int, ...]] = {}

    def free_space(self) -> int:
        """Return how many bytes an entry may take: what the limit and the disk allow.

        Raises:
            CacheError: If nobody can say.
        """
        place = self.directory
        while not os.path.exists(place):  # noqa: PTH110 - Path's raises below a closed folder
            place = place.parent
        try:
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise self._unwritten(error) from error
        # A disk that is filled to the last byte troubles everyone else on it.
        return min(self.limit, int(0.9 * free))

    def has(self, kind: str, parts: Mapping[str, Any]) -> bool:
        """Whether there is a whole entry of that kind, made of these parts."""
        try:
            return cache_entry.compare(self._place(kind, parts), self._compared)
        except (Damaged, OSError):
            return False

    def forget(self, kind: str, parts: Mapping[str, Any]) -> None:
        """Remove an entry, so that it is made anew when it is wanted next."""
        self._remove(self._place(kind, parts))

    def get(
        self,
        kind: str,
        parts: Mapping[str, Any],
        *,
        write: Callable[[Path], None],
        read: Callable[[Path], T],
        about: str | Callable[[], str],
    ) -> T:
        """Return what an entry holds; where there is none, make it first.

        Args:
            kind: What it is; names a folder.
            parts: All that it depends on, as plain values; they make the key.
            write: Fills the folder that it is given.
            read: Opens the filled folder. The entry stays for as long as it reads; files that it
                maps into memory stay for as long as they are mapped.
            about: What it is made from, in words, for `entries`; a function is called once it is
                written.

        Returns:
            What `read` returned.

        Raises:
            CacheError: If it cannot be kept: a full disk, a folder that cannot be written.
        """
        place = self._place(kind, parts)
        with self._alone(place):
            try:
                if cache_entry.compare(place, self._compared):
                    return self._opened(place, read)
            except (Damaged, OSError, ValueError, LookupError, UserError) as error:
                # A bad disk, an older version, or whoever shares the folder.
                warn(f"cache: {str(place)!r} is damaged ({in_short(error)}) and is made again")
            self._make(place, write, about)
            try:
                return self._opened(place, read)
            except (OSError, UserError) as error:
                raise CacheError(
                    f"{str(place)!r} was removed as soon as it was made ({in_short(error)})"
                ) from error

    def _opened(self, place: Path, read: Callable[[Path], T]) -> T:
        os.utime(place / ABOUT)
        return read(place)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return all whole entries, or those of one kind, those used last first."""
        found = [
            one for place in self._places(kind) if (one := cache_entry.find(place)) is not None
        ]
        return sorted(found, key=lambda one: -one.used)

    def _places(self, kind: str | None) -> list[Path]:
        """Return the folders of entries, whole or not, that may be removed."""
        files = [file for one in ([kind] if kind else KINDS)
                 for file in self.directory.glob(f"{one}/*/{ABOUT}")]  # fmt: skip
        return [file.parent for file in files if cache_ownership.owns(self.directory, file.parent)]

    def clear(self, kind: str | None = None) -> list[Entry]:
        """Remove all entries, or those of one kind, but for those just being made or opened.

        Returns:
            What was removed.
        """
        removed = [one for one in self.entries(kind) if self._remove(one.path)]
        self._sweep()
        return removed

    def _place(self, kind: str, parts: Mapping[str, Any]) -> Path:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not in `KINDS`, whose entries alone are ever removed")
        text = json.dumps({"format": FORMAT, "kind": kind, **parts}, sort_keys=True)
        return self.directory / kind / hashlib.sha256(text.encode()).hexdigest()[:32]

    def _make(
        self, place: Path, write: Callable[[Path], None], about: str | Callable[[], str]
    ) -> None:
        self._clear(place)
        # By a name of its own: where the whole cache is removed, its locks go too, and another
        # process may begin the same entry.
        part = place.with_name(f".{place.name}.{os.getpid()}-{time.monotonic_ns()}.part")
        try:
            cache_ownership.mark(self.directory)
            part.mkdir()
            write(part)
            cache_entry.close(part, about if isinstance(about, str) else about())
            if cache_ownership.looks_own(place) or cache_entry.is_sealed(place):
                shutil.rmtree(place, ignore_errors=True)  # one that lost a file
            part.rename(place)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            if is_disk_full(error):
                raise CacheError(f"no space is left in {str(self.directory)!r}") from error
            if isinstance(error, OSError):
                raise self._unwritten(error) from error
            if isinstance(error, UserError) and str(part) in str(error):
                raise CacheError(str(error)) from error
            raise
        self._evict(keep=place)

    def _evict(self, keep: Path) -> None:
        self._age()
        entries = self.entries()
        excess = sum(one.size for one in entries) - self.limit
        for one in reversed(entries):
            if excess <= 0:
                break
            if one.path != keep and self._remove(one.path):
                excess -= one.size
        self._sweep()

    def _age(self) -> None:
        """Take what was used in the future, by a clock that was set back, as used just now."""
        now = time.time()
        for one in self.entries():
            if one.used > now + _APART:
                with suppress(OSError):
                    os.utime(one.path / ABOUT, (now, now))

    def _remove(self, place: Path) -> bool:
        from filelock import Timeout

        if not cache_ownership.owns(self.directory, place):
            return False  # the folder may be one that a stranger's config names
        gone = place.with_name(f".{place.name}.gone")
        try:
            with self._alone(place, wait=False):
                place.rename(gone)  # at once: nobody sees half of it
        except (Timeout, OSError, CacheError):
            return False  # in use, gone already, or another user's
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _sweep(self) -> None:
        """Remove what ended processes left behind. Locks stay: to remove one would open a race."""
        from filelock import Timeout

        for left, place in cache_ownership.leftovers(self.directory):
            with suppress(Timeout, CacheError), self._alone(place, wait=False):
                shutil.rmtree(left, ignore_errors=True)
        harmed = []
        for place in self._places(None):
            # Never read, and listed nowhere.
            try:
                cache_entry.describe(place)
            except (Damaged, OSError) as error:
                if self._remove(place):
                    harmed.append(f"{place.parent.name}/{place.name} ({in_short(error)})")
        if harmed:
            warn(f"cache: removed what is damaged in {str(self.directory)!r}: {listing(harmed)}")

    def _clear(self, place: Path) -> None:
        """Remove what ended processes left of an entry whose lock is held."""
        for left in (one for one, of in cache_ownership.leftovers(self.directory) if of == place):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _alone(self, place: Path, *, wait: bool = True) -> Iterator[None]:
        """Hold an entry's lock."""
        from filelock import Timeout

        try:
            lock = hold(place, wait=wait)
        except Timeout:
            raise
        except OSError as error:
            raise self._unwritten(error) from error
        with lock:
            yield

    def _unwritten(self, error: OSError) -> CacheError:
        return CacheError(f"{str(self.directory)!r} cannot be used: {error.strerror or error}")


def hold(place: Path, *, wait: bool = True) -> AbstractContextManager:
    """Return the lock of a folder, held; the system takes it back from a process that ends.

    Args:
        place: The folder, which need not be there.
        wait: Whether to wait for another process that holds it, which is said.

    Raises:
        filelock.Timeout: If another process holds it and `wait` is false.
        OSError: If nothing can be written beside the folder.
    """
    from filelock import FileLock, Timeout

    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        return lock.acquire(timeout=PATIENCE if wait else 0)
    except Timeout:
        if not wait:
            raise
        say(f"cache: another process makes what this one needs; waiting for {str(place)!r}")
        return lock.acquire()


def temporary(
    *, activations: Literal["auto", "always", "never"] = "auto", views: int = 4
) -> Cache:
    """Return a cache for this process alone; its folder goes when nobody holds it any more.

    Args:
        activations: See `Cache`.
        views: See `Cache`.

    Returns:
        A `Cache` in the folder for temporary files.
    """
    try:
        folder = tempfile.mkdtemp(prefix="kerasft-")
    except OSError as error:
        raise UserError(
            f"cache=temporary needs a folder for temporary files: {error.filename or ''} "
            f"{error.strerror or error}. Set the environment variable TMPDIR to one that there "
            "is, or choose cache=disk."
        ) from error
    made = Cache(folder, activations=activations, views=views)
    made.limit = shutil.disk_usage(folder).total
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 of the files in a folder, but for the names that Keras gave to objects.

    Keras numbers objects of a class as they are made; that changes nothing of what they do.
    """
    together = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        if file.suffix == ".json":
            with suppress(ValueError):
                content = json.dumps(nameless(json.loads(content)), sort_keys=True).encode()
        together.update(str(file.relative_to(folder)).encode() + b"\0")
        together.update(hashlib.sha256(content).digest())
    return together.hexdigest()


def nameless(value: object) -> Any:
    """Return a config of Keras without the names of objects, in which it counts them."""
    if isinstance(value, dict):
        return {k: nameless(v) for k, v in value.items() if k != "name"}
    return [nameless(v) for v in value] if isinstance(value, list) else value


def digest_code(kinds: Iterable[Any]) -> str:
    """Return the SHA-256 of the files that define classes and functions.

    A mended class must not be served what the old one made. The files of Keras, KerasHub and
    TensorFlow are left out: their versions say as much.
    """
    together = hashlib.sha256()
    names = {kind.__module__ for kind in kinds}
    for name in sorted(n for n in names if n.split(".")[0] not in _VERSIONED):
        file = getattr(sys.modules.get(name), "__file__", None)
        # What was typed in at a prompt has none.
        together.update(name.encode() + b"\0" + (Path(file).read_bytes() if file else b""))
    return together.hexdigest()


_VERSIONED = ("builtins", "keras", "keras_hub", "tensorflow")
