"""A zip of images, unpacked once into the cache, and never outside of it."""

from __future__ import annotations

import glob
import hashlib
import os
import random
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from kerasft.data.images.files import HIDDEN
from kerasft.errors import UserError
from kerasft.system.cache import hold
from kerasft.system.cache_ownership import cache_folder
from kerasft.system.checksums import WHOLE, Damaged, crc32, require_size
from kerasft.system.console import listing, warn
from kerasft.system.files import written_whole

MOST_FILES = 2_000_000
MOST_BYTES = 200 * 2**30
# Images hardly shrink: a large archive that grows so much was made to fill a disk.
MOST_GROWTH = 200
SMALL_BYTES = 2**30

# Bytes of a name, in common file systems.
LONGEST_NAME = 255

_ARCHIVES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst")
_DRIVE = re.compile(r"[A-Za-z]:")
_LITTER = ("__MACOSX", ".DS_Store")


def unpack(path: Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack a zip archive into the cache, or find it there from the last time.

    Args:
        path: The archive.
        most_files: Refuse archives of more files.
        most_bytes: Refuse archives that unpack to more bytes.

    Returns:
        The folder that holds what the archive holds.

    Raises:
        UserError: If the archive is broken or encrypted, if a name in it leads outside, if it
            holds links or devices, or if it is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not _litter(m.filename)]
            _check(path, members, most_files, most_bytes)
            target = cache_folder() / "unpacked" / f"{path.stem}-{_key(members)}"
            there = target.is_dir()
            if not there or _harmed(members, target) or _foreign(members, target):
                with hold(target):  # else the cache may be read-only
                    if not target.is_dir():
                        _write(archive, members, target)
                    if foreign := _foreign(members, target):
                        _put_aside(foreign, target)
                    if harmed := _harmed(members, target):
                        _mend(archive, harmed, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"data.path: {path} is broken, or no zip archive ({error}). Fetch it again, or unpack "
            "it yourself and name the folder."
        ) from error
    except (OSError, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        place = getattr(error, "filename", None) or cache_folder()
        raise UserError(
            f"data.path: {path} cannot be unpacked at {place} ({reason}). See that it can be "
            "written and has room, set the environment variable KERASFT_CACHE to another folder, "
            "or unpack the archive yourself and name the folder."
        ) from error
    return target


def _litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and (parts[0] in _LITTER or parts[-1] in _LITTER)


def _check(path: Path, members: list, most_files: int, most_bytes: int) -> None:
    """Refuse what would write elsewhere, or without end, before a byte is written."""
    if all(m.is_dir() for m in members):
        raise UserError(f"data.path: {path} holds no files. Fetch it again, or pack it again.")
    problems = []
    outside = [m.filename for m in members if not _inside(m)]
    if outside:
        problems.append(
            f"data.path: names in {path} lead out of the folder it is unpacked into: "
            f"{listing(map(repr, outside))}."
        )
    # Archives from Windows tell no kind.
    kinds = {m.filename: stat.S_IFMT(m.external_attr >> 16) for m in members}
    for word, odd in (
        ("links", [name for name, kind in kinds.items() if kind == stat.S_IFLNK]),
        ("devices, pipes or sockets", [
            name for name, kind in kinds.items()
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        ]),
    ):  # fmt: skip
        if odd:
            problems.append(f"data.path: {path} holds {word}: {listing(map(repr, odd))}.")
    if secret := [m.filename for m in members if m.flag_bits & 1]:
        problems.append(f"data.path: {path} is encrypted: {listing(map(repr, secret))}.")
    problems += _odd_names(path, members)
    size = sum(m.file_size for m in members)
    grown = size > max(SMALL_BYTES, MOST_GROWTH * sum(m.compress_size for m in members))
    if len(members) > most_files or size > most_bytes or grown:
        problems.append(
            f"data.path: {path} would unpack to {len(members):,} files of {size:,} bytes "
            f"together, and at most {most_files:,} files of {most_bytes:,} bytes are unpacked, "
            f"no more than {MOST_GROWTH} times their packed size."
        )
    if problems:
        last = "Unpack it yourself where you trust it, and name the folder."
        raise UserError(problems=[*problems[:-1], f"{problems[-1]} {last}"])


def _odd_names(path: Path, members: list) -> list[str]:
    """Say which names cannot be unpacked, each kind in its own words."""
    files = [m for m in members if not m.is_dir()]
    problems = []
    slashed = [m.orig_filename for m in members if "\\" in m.orig_filename and _inside(m)]
    if slashed:
        problems.append(
            f"data.path: names in {path} are written with backslashes, as some programs of Windows "
            f"do: {listing(map(repr, slashed))}. Pack it again with forward slashes."
        )
    drives = [m.orig_filename for m in members if _DRIVE.match(m.orig_filename)]
    if drives:
        problems.append(
            f"data.path: names in {path} begin with a drive, and lead out of the folder: "
            f"{listing(map(repr, drives))}."
        )
    long = [m.filename for m in members if any(
        len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME
        for part in PurePosixPath(m.filename).parts
    )]  # fmt: skip
    if long:
        problems.append(
            f"data.path: {path} holds names of more than {LONGEST_NAME} bytes, which file systems "
            f"do not take: {listing(repr(name[:40] + '...') for name in long)}. Shorten them."
        )
    counts = Counter(_place(m) for m in files)
    if twice := [name for name, count in counts.items() if count > 1]:
        problems.append(
            f"data.path: {path} holds several files of one name: {listing(map(repr, twice))}."
        )
    folders = {str(parent) for name in counts for parent in PurePosixPath(name).parents}
    folders |= {_place(m) for m in members if m.is_dir()}
    if both := sorted(folders & set(counts)):
        problems.append(
            f"data.path: {path} holds a file and a folder of one name: {listing(map(repr, both))}."
        )
    if files and all(PurePosixPath(name).suffix.lower() in _ARCHIVES for name in counts):
        problems.append(
            f"data.path: {path} holds nothing but other archives: {listing(map(repr, counts))}. "
            "They are not unpacked."
        )
    return problems


def _place(member: zipfile.ZipInfo) -> str:
    """Return where a member is unpacked: `./cats//1.png` is `cats/1.png`."""
    return PurePosixPath(member.filename).as_posix()


def _inside(member: zipfile.ZipInfo) -> bool:
    # `orig_filename` is the name before zipfile cut it at a NUL or turned its separators.
    name = member.orig_filename
    pure = PurePosixPath(name)
    # Elsewhere than on Windows a colon is a sign like any other; a drive is named by itself.
    colon = os.name == "nt" and ":" in name
    return bool(pure.parts) and not (
        pure.is_absolute() or ".." in re.split(r"[/\\]", name) or "\0" in name or colon
    )


def _foreign(members: list, target: Path) -> list[Path]:
    """Return what is in the unpacked folder, and was not in the archive."""
    files = {_place(m) for m in members if not m.is_dir()}
    folders = {_place(m) for m in members if m.is_dir()}
    folders |= {str(one) for name in files | folders for one in PurePosixPath(name).parents}
    found = []
    for place, inner, names in os.walk(target):
        here = Path(place)
        for known, held in ((folders, inner), (files, names)):
            for name in list(held):
                own = here / name
                # Links to folders are among the folders; nothing that was unpacked is a link.
                if own.relative_to(target).as_posix() in known and not own.is_symlink():
                    continue
                if held is inner:
                    inner.remove(name)
                if not name.startswith(HIDDEN):  # what systems leave behind is never read
                    found.append(own)
    return found


def _put_aside(foreign: list[Path], target: Path) -> None:
    """Move what the archive does not hold out of the folder, and lose nothing of it."""
    aside = Path(tempfile.mkdtemp(prefix=f"{target.name}.extra-", dir=target.parent))
    for own in foreign:
        place = aside / own.relative_to(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        own.rename(place)
    names = sorted(own.relative_to(target).as_posix() for own in foreign)
    warn(
        f"{str(target)!r} held what is not in the archive, moved to {str(aside)!r}: "
        f"{listing(map(repr, names))}"
    )


def _key(members: list) -> str:
    """Return a short word for the content: names, sizes and checksums of all members."""
    told = hashlib.sha256()
    for m in sorted(members, key=lambda m: m.filename):
        told.update(f"{m.filename}\0{m.file_size}\0{m.CRC}\n".encode("utf-8", "surrogatepass"))
    return told.hexdigest()[:16]


def _harmed(members: list, target: Path) -> list:
    """Return what is not as the archive has it: a disk that fails, a hand that tidied.

    All sizes are compared, and the checksums of up to `WHOLE` bytes, of other files each time.
    """
    files = [member for member in members if not member.is_dir()]
    random.SystemRandom().shuffle(files)
    left, harmed = WHOLE, []
    for member in files:
        place = target / member.filename
        left -= member.file_size
        try:
            require_size(place, member.file_size)
            if left >= 0 and crc32(place) != member.CRC:
                raise Damaged(f"the checksum of {place.name} differs")
        except (Damaged, OSError):
            harmed.append(member)
    return harmed


def _mend(archive: zipfile.ZipFile, harmed: list, target: Path) -> None:
    """Unpack some files again, each in one step."""
    files = "1 file" if len(harmed) == 1 else f"{len(harmed):,} files"
    warn(
        f"{files} unpacked into {str(target)!r} missing or damaged, unpacked again: "
        f"{listing(sorted(m.filename for m in harmed))}"
    )
    for member in harmed:
        with (
            archive.open(member) as source,
            written_whole(target / member.filename, own=True) as part,
            open(part, "wb") as file,
        ):
            shutil.copyfileobj(source, file)


def _write(archive: zipfile.ZipFile, members: list, target: Path) -> None:
    """Unpack beside the target and rename, so that half an archive is never taken for whole."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was ended
    needed = sum(m.file_size for m in members)
    if shutil.disk_usage(target.parent).free < needed:
        raise OSError(f"{needed:,} bytes are needed, and less are free")
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        for member in members:
            place = beside / member.filename
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(place, "xb") as file:
                shutil.copyfileobj(source, file)
        beside.chmod(0o755)
        beside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
