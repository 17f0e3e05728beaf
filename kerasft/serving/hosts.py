"""The names under which a server may be asked.

A page of a stranger can make its own name mean 127.0.0.1 once it is in somebody's browser, which
then lets the page read what the server there answers (DNS rebinding). The browser says the page's
name in the `Host` header; so names that are not this machine's are refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from kerasft.errors import UserError
from kerasft.serving.status import Failure

ANY = "*"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|[^\[\]:/@\s]+)(?::[0-9]{0,5})?", re.ASCII)
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)


class Hosts:
    """Which names are this machine's.

    On a loopback address: `localhost` and loopback addresses. On any other: these, all addresses
    (a page that was loaded from an address has no name that could be made to mean another one),
    and the machine's own name.

    Args:
        host: The address that is listened on.
        more: Other names that are allowed, without a port; `"*"` allows all.

    Example:
        >>> Hosts("127.0.0.1").allows("localhost:8501")
        True
        >>> Hosts("127.0.0.1", ["films.example"]).allows("stranger.example")
        False
    """

    def __init__(self, host: str, more: Sequence[str] = ()):
        self.names = {"localhost", *(_plain(name) for name in more)}
        listens = _address(host)
        self.near = host.lower() == "localhost" or (listens is not None and listens.is_loopback)
        if not self.near:
            own = _plain(socket.gethostname())
            self.names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
            if listens is None:
                self.names.add(_plain(host))

    def allows(self, header: str) -> bool:
        """Return whether a request may name this host, with or without a port."""
        if ANY in self.names:
            return True
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        name = _plain(match[1])
        if name in self.names:
            return True
        address = _address(name)
        return address is not None and (not self.near or address.is_loopback)

    def require(self, headers: Sequence[str], *, target: str | None, old: bool) -> None:
        """See that a request names this machine.

        Args:
            headers: The `Host` headers.
            target: The host in the request's first line, where there is one.
            old: Whether it is of HTTP/1.0, which needs no `Host` (browsers always send it).

        Raises:
            Failure: If it does not.
        """
        if ANY in self.names:
            return
        if len(headers) > 1 or not (headers or old):
            raise Failure("INVALID_ARGUMENT", "A request must have one Host header.")
        for given in (*headers, *([] if target is None else [target])):
            if not self.allows(given):
                raise Failure(
                    "PERMISSION_DENIED",
                    f"This server is not asked as {given[:100]!r}. Where that is its name: "
                    "--allowed-host NAME.",
                )


def require_names(names: Sequence[str]) -> None:
    """See that what is to be allowed are names.

    Raises:
        UserError: If one is not.
    """
    for name in names:
        if name != ANY and _address(_plain(name)) is None and not _NAME.fullmatch(_plain(name)):
            raise UserError(
                "--allowed-host must be a name or an address without a port, such as "
                f"films.example, or * for all. Received: {name!r}."
            )


def _plain(name: str) -> str:
    name = name.lower().removeprefix("[").removesuffix("]")
    return name.removesuffix(".") if not name.endswith("..") else name


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(name.partition("%")[0] if ":" in name else name)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
