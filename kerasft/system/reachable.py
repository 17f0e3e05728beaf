"""Whether a host can be reached, checked once and quickly."""

from __future__ import annotations

import socket
import urllib.request
from urllib.parse import urlparse

TIMEOUT = 5.0


def unreachable(url: str) -> str | None:
    """Return why the host of `url` cannot be reached, or `None` if it can or may be.

    Args:
        url: An address; only its host and port count.

    Returns:
        The reason in a few words. `None` too where a proxy stands between, which is not asked.
    """
    parts = urlparse(url)
    if parts.scheme in urllib.request.getproxies():
        return None
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT):
            return None
    except (OSError, RuntimeError) as error:  # RuntimeError: a process that forbids sockets
        return f"{parts.hostname}: {error}"
