"""URLs of databases: which may be asked, and how they are shown without their passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from kerasft.system.passwords import FILE, FILE_OPTIONS, PLAIN, is_shown, without_password

# Databases that Optuna knows, and drivers that SQLAlchemy has for them.
DRIVERS = {
    "sqlite": ("", "pysqlite"),
    "postgresql": ("", "psycopg", "psycopg2", "psycopg2cffi", "pg8000"),
    "mysql": ("", "cymysql", "mariadbconnector", "mysqlconnector", "mysqldb", "pymysql"),
    "mariadb": ("", "cymysql", "mariadbconnector", "mysqlconnector", "mysqldb", "pymysql"),
}
# What may not behind that of a server: it loads code, reads files for the server, runs commands.
REFUSED = (
    "allow_local_infile", "allow_local_infile_in_path", "default_file", "init_command",
    "local_infile", "plugin", "plugin_dir", "read_default_file", "read_default_group",
)  # fmt: skip
# What names a database there.
NAMES = ("db", "dbname", "database")


def problems(url: str) -> Iterator[str]:
    """Yield what is wrong with the URL of a storage, none of it with a password.

    Args:
        url: What `sweep.storage` holds.
    """
    kind, _, driver = url.partition("://")[0].partition("+")
    if "://" not in url or driver not in DRIVERS.get(kind, ()):
        # It may hold anything.
        yield (
            "sweep.storage must be the URL of a database: sqlite:////PATH/study.db, or one that "
            f"begins with {', '.join(f'{name}://' for name in DRIVERS if name != 'sqlite')} "
            "(postgresql+psycopg:// for the driver psycopg), or null for a journal in the sweep's "
            f"folder. Received: {without_password(url)!r}."
        )
    elif kind == "sqlite":
        yield from _of_file(url)
    elif (found := PLAIN.fullmatch(url)) is None:
        yield (
            "sweep.storage cannot be read: it must be KIND://USER@HOST:PORT/DATABASE?KEY=VALUE, "
            "with each of @ : / ? # and blanks inside of a part written as %40 %3A %2F %3F %23 "
            "%20. PostgreSQL's client reads PGPASSWORD and ~/.pgpass: leave the password out. "
            f"Received: {without_password(url)!r}."
        )
    elif odd := [key for key, _ in _options(found["query"]) if key.lower() in REFUSED]:
        yield (
            f"sweep.storage may not have {odd[0]!r} behind its '?': that may load code, or read "
            f"files of this machine. Received: {without_password(url)!r}."
        )
    elif odd := [key for key, value in _options(found["query"])
                 if key.lower() in NAMES and not re.fullmatch(r"[\w-]*", value)]:  # fmt: skip
        yield (
            f"sweep.storage: {odd[0]} behind the '?' must be the name of a database: what is more "
            f"is read as further settings. Received: {without_password(url)!r}."
        )


def _of_file(url: str) -> Iterator[str]:
    found = FILE.fullmatch(url)
    odd = [key for key, _ in _options(found[3])
           if key not in FILE_OPTIONS] if found else []  # fmt: skip
    if found is None or not found[2] or found[2].startswith(":") \
            or unquote(found[2]).lower().lstrip().startswith("file:"):
        yield (
            "sweep.storage must name a file of SQLite by its path: sqlite:////PATH/study.db. "
            f"Received: {without_password(url)!r}."
        )
    elif odd:
        yield (
            f"sweep.storage: {odd[0]!r} is not taken behind the '?' of a file of SQLite. Allowed: "
            f"{', '.join(FILE_OPTIONS)}. Received: {without_password(url)!r}."
        )


def _options(query: str | None) -> list[tuple[str, str]]:
    return parse_qsl(query or "", keep_blank_values=True)


def file_of(url: str) -> Path | None:
    """Return the file of SQLite that an URL names; `None` for that of a server."""
    from sqlalchemy.engine import make_url

    return Path(make_url(url).database or "") if FILE.fullmatch(url) else None


def settled(url: str | None) -> str | None:
    """Return an URL that means the same from any folder: SQLite's files get their whole path.

    Example:
        >>> settled("sqlite:////data/study.db")
        'sqlite:////data/study.db'
    """
    match = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)(.*)", url or "")
    if match is None:
        return url
    return f"{match[1]}{Path(match[2]).resolve()}{match[3]}"


def without_secrets(text: str, url: str) -> str:
    """Return what a database or its driver said, without what is secret in an URL.

    Args:
        text: What it said.
        url: The URL that it was given.
    """
    text = text.replace(url, without_password(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        if secret not in text:
            continue
        if len(secret) < 4:  # it could be told by what is missing
            return "it said no"
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> set[str]:
    """Return all that is not to be shown of an URL, as it stands there and as it is meant."""
    found = PLAIN.fullmatch(url)
    query = found["query"] if found else url.partition("?")[2]
    raw = [value for key, value in _options(query) if not is_shown(key, value)]
    if found is None:
        raw += re.findall(r"://[^:/]*:(.*)@", url)
        parts = re.split(r"[:/@?&;=\s]+", url.partition("://")[2])
        raw += [part for part in parts if len(part) > 3]
    elif found["password"]:
        raw.append(found["password"][1:])
    raw += [one.partition("=")[2] for one in map(unquote_plus, raw) if "=" in one]
    said: set[Any] = set()
    for one in raw:
        for meant in (one, unquote(one), unquote_plus(one)):
            said |= {meant, quote(meant), quote(meant, safe=""), quote_plus(meant)}
            said |= {repr(meant)[1:-1]}
    return said - {""}
