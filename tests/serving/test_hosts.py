"""Requests that name another machine are refused."""

from __future__ import annotations

import socket

import pytest

from kerasft.errors import UserError
from kerasft.serving.hosts import Hosts, require_names
from kerasft.serving.status import Failure

LOCAL = ["localhost", "LOCALHOST:8501", "localhost.", "127.0.0.1:8501", "127.9.9.9", "[::1]:8501",
         "[::1]", "[::ffff:127.0.0.1]:1"]  # fmt: skip
STRANGE = ["stranger.example", "stranger.example:8501", "127.0.0.1.stranger.example", "127.1", "",
           "localhost.stranger.example", "localhost..", "localhost@stranger.example", "[stranger]",
           "localhost:port", "localhost stranger", "١٢٧.0.0.1", "\ud800"]  # fmt: skip
ADDRESSES = ["192.168.1.5:8501", "10.0.0.1", "[2001:db8::1]:8501", "[fe80::1%25eth0]", "0.0.0.0"]


def test_on_a_loopback_address_only_its_own_names_are_allowed():
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        hosts = Hosts(host)
        assert [name for name in LOCAL if not hosts.allows(name)] == []
        assert [name for name in STRANGE + ADDRESSES if hosts.allows(name)] == []
        assert not hosts.allows("films.example")


def test_on_other_addresses_all_addresses_and_the_own_name_are_allowed():
    own = socket.gethostname()
    for host in ("0.0.0.0", "::", "192.168.1.5", "films.example"):
        hosts = Hosts(host)
        allowed = [*LOCAL, *ADDRESSES, own, f"{own.upper()}.:8501"]
        assert [name for name in allowed if not hosts.allows(name)] == []
        assert [name for name in STRANGE if hosts.allows(name)] == []
    assert Hosts("films.example").allows("Films.Example:80")


def test_more_names_are_allowed_by_option():
    hosts = Hosts("127.0.0.1", ["Films.Example.", "10.0.0.7", "[2001:db8::1]"])
    for name in ("films.example:8501", "10.0.0.7", "[2001:db8::1]:8501"):
        assert hosts.allows(name)
    assert not hosts.allows("stranger.example")
    assert Hosts("127.0.0.1", ["*"]).allows("stranger.example")


def test_one_host_is_named_but_for_old_clients():
    hosts = Hosts("127.0.0.1")
    hosts.require(["localhost"], target=None, old=False)
    hosts.require([], target=None, old=True)
    for given, target, old, code in (
        ([], None, False, "INVALID_ARGUMENT"),
        (["localhost", "localhost"], None, False, "INVALID_ARGUMENT"),
        (["localhost"], "stranger.example", False, "PERMISSION_DENIED"),
        (["stranger.example"], None, True, "PERMISSION_DENIED"),
    ):
        with pytest.raises(Failure) as refused:
            hosts.require(given, target=target, old=old)
        assert refused.value.code == code


@pytest.mark.parametrize("name", ["", "films.example:8501", "http://films", "a b", "é", "*.films"])
def test_what_is_no_name_cannot_be_allowed(name):
    require_names(["films.example", "*", "10.0.0.7", "[::1]"])
    with pytest.raises(UserError, match=r"--allowed-host must be a name .* Received: "):
        require_names([name])
