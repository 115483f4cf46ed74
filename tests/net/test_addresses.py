"""Which addresses are dialled: judged by the address, whatever its name is and however it is written (SSRF)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.middleware.proxy.proxying import GET, backend_of, proxied, whole
from tests.net.dialling import Peer

from aggmw.contracts.backends import Backend
from aggmw.errors import UpstreamUnreachable
from aggmw.middleware.proxy import Http1Transport
from aggmw.net.addresses import INTERNAL, AddressRules
from aggmw.net.dial import dial
from aggmw.testing import ScriptedBackend, respond

INSIDE = AddressRules(deny=INTERNAL)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.192",
        "239.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
        "2001:0:1::8000:0:80ff:fffe",
        "::127.0.0.1",
        "127.1",
        "localhost",
        "",
        "2130706433",
    ],
)
def test_inside(address: str) -> None:
    """This host, its links, metadata services; also in the form of IPv6, behind translators, and what is no address."""
    assert not INSIDE.permit(address)


@pytest.mark.parametrize("address", ["10.0.0.7", "192.0.2.1", "::ffff:10.0.0.7", "2001:db8::1", "fd12::1"])
def test_outside(address: str) -> None:
    """Where services are."""
    assert INSIDE.permit(address)


def test_allowed() -> None:
    """Only what is listed, and of that not what is denied."""
    rules = AddressRules(allow=["10.0.0.0/8", "fd00::/8"], deny=["10.1.0.0/16"])
    assert rules.permit("10.0.0.1")
    assert rules.permit("::ffff:10.0.0.1")
    assert rules.permit("fd12::1")
    assert not rules.permit("10.1.0.1")
    assert not rules.permit("::ffff:10.1.0.1")
    assert not rules.permit("192.0.2.1")
    assert not rules.permit("2001:db8::1")
    assert repr(rules) == "AddressRules(allow=['10.0.0.0/8', 'fd00::/8'], deny=['10.1.0.0/16'])"
    assert repr(AddressRules(unix=False)) == "AddressRules(unix=False)"


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "::ffff:{}", "64:ff9b::{}", "::{}"]))
def test_one_address_in_every_form(address: ipaddress.IPv4Address, form: str) -> None:
    """What is denied is denied however it is written."""
    rules = AddressRules(deny=[f"{address}/32"])
    if int(address) > 0xFFFF:
        assert not rules.permit(form.format(address))


@pytest.mark.parametrize("networks", [["10.0.0.1/8"], ["localhost"], [""], "10.0.0.0/8"])
def test_what_is_no_network(networks: Any) -> None:
    """Said when the rules are made."""
    with pytest.raises(ValueError, match=r"is no network such as|takes a list of networks"):
        AddressRules(allow=networks)


async def test_denied_addresses_are_not_dialled() -> None:
    """A literal address, a name that leads there, and a Unix socket: nothing is connected; the log has the address."""
    async with ScriptedBackend([]) as server:
        for host in ("127.0.0.1", "localhost"):
            with capture_logs() as logs, pytest.raises(UpstreamUnreachable, match=r"^its address is not allowed$"):
                await dial(Peer, host, server.port, rules=INSIDE)
            assert "127.0.0.1" in logs[0]["error"]
        with pytest.raises(UpstreamUnreachable, match="its address is not allowed"):
            await dial(Peer, "localhost", 0, unix="/run/x.sock", rules=AddressRules(unix=False))
        assert server.connections == []


async def test_of_several_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads inside and outside: only outside is dialled, also when inside comes first; and what was judged
    is what is dialled, whatever the name leads to by then."""
    asked = 0
    async with ScriptedBackend(lambda raw: respond(body=b"hello")) as server:

        async def resolve(host: str, port: int, **options: Any) -> list[Any]:
            nonlocal asked
            asked += 1
            found = ["169.254.169.254", "127.0.0.1"] if asked == 1 else ["169.254.169.254"]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        rules = AddressRules(deny=["169.254.0.0/16"])
        peer = await dial(Peer, "rebinding.example", server.port, rules=rules)
        assert peer.transport.get_extra_info("peername")[0] == "127.0.0.1"
        peer.transport.close()
        with pytest.raises(UpstreamUnreachable, match="its address is not allowed"):
            await dial(Peer, "rebinding.example", server.port, rules=rules)
        assert asked == 2


async def test_the_transport_keeps_to_the_rules() -> None:
    """A service at a denied address is 503, in words that name no address; one at another address is served."""
    async with ScriptedBackend(lambda raw: respond(body=b"hello")) as server:
        denying, allowing = (
            Http1Transport(addresses=INSIDE),
            Http1Transport(addresses=AddressRules(allow=["127.0.0.0/8"])),
        )
        assert await whole(await allowing.send(backend_of(server), GET)) == b"hello"
        answer = await proxied(denying, backend_of(server)).request("GET", "/a")
        assert answer.status == 503
        assert answer.json()["message"].endswith("cannot be reached: its address is not allowed")
        metadata = Backend("v1.evil.io", "169.254.169.254", 80, tls=False)
        assert (await proxied(denying, metadata).request("GET", "/latest/meta-data")).status == 503
        assert repr(denying).startswith("Http1Transport(AddressRules(deny=['0.0.0.0/8', ")
        await allowing.aclose()
        await denying.aclose()


def test_rules_are_rules() -> None:
    """A list of networks is none."""
    with pytest.raises(TypeError, match="addresses takes AddressRules, not list"):
        Http1Transport(addresses=["10.0.0.0/8"])  # type: ignore[arg-type]
