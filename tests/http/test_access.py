"""Who may call: the rules of one listener, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from noria.http.access import Access, AuthenticationNeeded, HostForeign, TokenNeeded, allowed, check_listener

LOCAL, REMOTE = "127.0.0.1", "192.168.1.77"
BEARER = {"authorization": "Bearer secret"}


def caller(access: Access, host: str, client: str | None = LOCAL, server: str = LOCAL, **headers: str) -> str:
    scope: dict[str, Any] = {"client": None if client is None else (client, 40000), "server": (server, 5000)}
    given = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return access.caller(given, scope).name


def beyond(*hosts: str, host: str = "0.0.0.0") -> Access:
    return Access(token="secret", hosts=allowed([host, *hosts]), listener=host)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "LOCALHOST:1"])
@pytest.mark.parametrize("client", [LOCAL, REMOTE, "::ffff:192.168.1.77"])
@pytest.mark.parametrize("listener", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_host_that_says_it_is_local_opens_nothing_beyond_loopback(listener: str, client: str, host: str) -> None:
    access = beyond(host=listener)
    with pytest.raises(TokenNeeded):
        caller(access, host, client)
    with pytest.raises(TokenNeeded):
        caller(access, host, client, authorization="Bearer guess")
    assert caller(access, host, client, **BEARER) == "token:main"


@pytest.mark.parametrize("client", [REMOTE, "::ffff:192.168.1.77", "", None])
def test_a_listener_on_loopback_trusts_loopback_only(client: str | None) -> None:
    with pytest.raises(TokenNeeded):
        caller(Access(), "localhost", client)


@pytest.mark.parametrize("client", [LOCAL, "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_a_listener_on_loopback_needs_no_token(client: str) -> None:
    for listener in ("127.0.0.1", "::1"):
        for access in (Access(listener=listener), Access(listener=listener, token="secret")):
            assert caller(access, "localhost:5000", client) == "user:local"
            for more in ({"origin": "null"}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}):
                with pytest.raises(TokenNeeded):
                    caller(access, "localhost:5000", client, **more)


def test_the_address_that_was_given_or_reached_and_the_names_that_were_allowed_are_hosts() -> None:
    access = beyond("noria.example", host="192.168.1.5")
    for host in ("192.168.1.5:5000", "noria.example", "NORIA.example:80"):
        assert caller(access, host, REMOTE, "192.168.1.5", **BEARER) == "token:main"
        with pytest.raises(TokenNeeded):
            caller(access, host, REMOTE, "192.168.1.5")
    every = beyond()
    assert caller(every, "192.168.1.5:5000", REMOTE, "192.168.1.5", **BEARER) == "token:main"
    assert caller(every, "192.168.1.5:5000", REMOTE, "::ffff:192.168.1.5", **BEARER) == "token:main"
    assert caller(beyond(host="::"), "[fd00::5]:5000", "fd00::7", "fd00:0::5", **BEARER) == "token:main"
    for host in ("192.168.1.6", "noria.example", "192.168.1.5.noria.example", "", "[fd00::5"):
        with pytest.raises(HostForeign) as refused:
            caller(every, host, REMOTE, "192.168.1.5", **BEARER)
        assert "--allow-host" in refused.value.hint


def test_beyond_loopback_no_listener_opens_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "", "noria.example", "::ffff:192.168.1.5"):
        for token in (None, ""):
            with pytest.raises(AuthenticationNeeded):
                check_listener(host, token)
        check_listener(host, "secret")
    for host in ("127.0.0.1", "::1", "localhost"):
        check_listener(host, None)
