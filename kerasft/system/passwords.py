"""URLs as they may be shown: without their passwords, wherever these stand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_plus

# What may stand behind the `?` of a file of SQLite.
FILE_OPTIONS = ("cached_statements", "check_same_thread", "isolation_level", "timeout")
# What is shown of what stands behind the `?`, as far as it is a name, a number or a path.
SHOWN = (
    "application_name", "charset", "connect_timeout", "dbname", "host", "port", "sslmode",
    "target_session_attrs", "unix_socket", "user", *FILE_OPTIONS,
)  # fmt: skip
# Where an URL can be read in one way alone: a password that holds an @ has it as %40, and where the
# host was forgotten, what looks like a port is the password.
PLAIN = re.compile(
    r"(?P<kind>\w+(?:\+\w+)?)://"
    r"(?:(?P<user>[^:/?#@\[\]\s]*)(?P<password>:(?:(?!\?\w+=)[^@\r\n])*)?@)?"
    r"(?P<host>[\w.-]*(?::\d{0,5})?(?:,[\w.-]*(?::\d{0,5})?)*|\[[0-9A-Fa-f:.%]+\](?::\d{0,5})?)"
    r"(?P<path>/[^?#@&;=\s]*)?(?:\?(?P<query>[^?#@\s]*))?"
)
FILE = re.compile(r"(sqlite(?:\+pysqlite)?:///)([^?]*)(?:\?(.*))?", re.DOTALL)
# What makes an override one that may hold a password, and what parts one has.
_SECRET = re.compile(r"://|:.*@", re.DOTALL)
_PARTS = re.compile(r"[^\w%+-]+")


def without_password(url: str) -> str:
    """Return an URL as it may be shown: no password, and of what stands behind `?` what is known.

    Where it could be read in several ways, little more than its beginning is shown.

    Example:
        >>> without_password("postgresql://me:secret@host/db?password=x&sslmode=require")
        'postgresql://me:***@host/db?password=***&sslmode=require'
        >>> without_password("postgresql://me:one@two@host/db")
        'postgresql://***'
    """
    if file := FILE.fullmatch(url):
        return f"{file[1]}{file[2]}{_shown(file[3])}"
    found = PLAIN.fullmatch(url)
    if found is None:
        kind = re.match(r"[\w+]{1,40}://", url)
        return f"{kind[0]}***" if kind else "***" if re.search(r"[:@=?]", url) else url
    user, path = found["user"], found["path"] or ""
    if user is not None:
        # A % may be the : before a password.
        user = ("***" if "%" in user else user) + (":***" if found["password"] else "") + "@"
    path = "/***" if "%" in path else path
    return f"{found['kind']}://{user or ''}{found['host']}{path}{_shown(found['query'])}"


def is_shown(key: str, value: str) -> bool:
    """Whether what stands behind the `?` of an URL, decoded, may be shown."""
    plain = r"[\w-]*" if key == "dbname" else r"[\w.,:/+ -]*"
    return key in SHOWN and bool(re.fullmatch(plain, value))


def _shown(query: str | None) -> str:
    if query is None:
        return ""
    parts = []
    for part in re.split("[&;]", query):
        key, is_set, value = part.partition("=")
        # What has no name may be the rest of a password.
        known = is_set and is_shown(unquote_plus(key), unquote_plus(value))
        name = key if re.fullmatch(r"[\w.-]{1,40}", key) else "***"
        parts.append(part if known else f"{name}=***" if is_set else "***")
    return "?" + "&".join(parts)


def override_shown(override: str) -> str:
    """Return an override as a message may repeat it: an URL in it may hold a password.

    Example:
        >>> override_shown("sweep.storage=postgresql://me:se,cret@host/db"), override_shown("a=1,2")
        ('sweep.storage=postgresql://me:***@host/db', 'a=1,2')
    """
    if not _SECRET.search(override):
        return override
    key, is_set, value = override.partition("=")
    if not is_set or _SECRET.search(key):
        return "***"
    return f"{key}={without_password(value)}"


def text_without(text: str, overrides: Iterable[str]) -> str:
    """Return what was said of some overrides, without what is secret in them.

    Where a part of one would be left, nothing of the text is.

    Example:
        >>> text_without("no 'a://b:se' in a=a://b:se", ["a=a://b:se"])
        "no 'a://***' in a=a://***"
    """
    for override in overrides:
        if (shown := override_shown(override)) == override:
            continue
        value, as_shown = override.partition("=")[2], shown.partition("=")[2]
        for whole, instead in ((override, shown), (value, as_shown),
                               (repr(value)[1:-1], as_shown)):  # fmt: skip
            text = text.replace(whole, instead) if whole else text
        parts = {part for part in _PARTS.split(value) if len(part) > 3 and part not in shown}
        if any(part in text for part in parts):
            return (
                f"An override cannot be taken. Received: {shown}. It must read key=value, with the "
                "value in quotes where it holds a comma, a bracket, a quote or a blank."
            )
    return text
