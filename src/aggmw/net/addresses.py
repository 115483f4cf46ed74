"""Which addresses may be dialled: judged by the address itself, when its name has been resolved.

A name that leads to one address while it is checked and to another one when it is dialled (DNS rebinding) gains
nothing: it is not resolved in between.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

__all__ = ["INTERNAL", "AddressRules"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

INTERNAL: Final = (
    "0.0.0.0/8",  # this host
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local: the metadata services of most clouds
    "100.100.100.200/32",  # and of some others
    "192.0.0.192/32",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "ff00::/8",
)
"""Where no service of somebody else's should ever be: the host itself, its links, metadata services, multicast."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRules:
    """Which addresses may be dialled.

    An IPv4 address in the form of IPv6 is judged as what it is, and one that leads to an IPv4 address by a translator
    (NAT64, 6to4, Teredo) is denied where that is.

    Args:
        allow: networks such as "10.0.0.0/8"; none given: all.
        deny: networks that are not dialled, whatever `allow` says; `INTERNAL` has those that nobody means.
        unix: whether Unix sockets may be dialled.

    Raises:
        ValueError: what is no network.
    """

    __slots__ = ("_allow", "_deny", "_unix")

    def __init__(self, *, allow: Iterable[str] = (), deny: Iterable[str] = (), unix: bool = True) -> None:
        self._allow = _networks("allow", allow)
        self._deny = _networks("deny", deny)
        self._unix = unix

    def __repr__(self) -> str:
        networks = {"allow": self._allow, "deny": self._deny}
        options = [f"{name}={[*map(str, value)]}" for name, value in networks.items() if value]
        return f"AddressRules({', '.join(options if self._unix else [*options, 'unix=False'])})"

    @property
    def unix(self) -> bool:
        """Whether Unix sockets may be dialled."""
        return self._unix

    def permit(self, address: str) -> bool:
        """Whether an address may be dialled; never what is none.

        Args:
            address: as the resolver gives it, perhaps with a scope (`fe80::1%eth0`).
        """
        try:
            found: _Address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if self._allow and not _within(found, self._allow):
            return False
        return not any(_within(each, self._deny) for each in (found, *_translated(found)))


def _networks(option: str, values: Iterable[str]) -> tuple[_Network, ...]:
    if isinstance(values, str):
        raise ValueError(f"{option} takes a list of networks, not one text")
    found: list[_Network] = []
    for value in values:
        try:
            found.append(ipaddress.ip_network(value))
        except ValueError as error:
            raise ValueError(f"{value!r} is no network such as 10.0.0.0/8 or fd00::/8: {error}") from None
    return tuple(found)


def _within(address: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _translated(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address may lead to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found = []
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.append(address.teredo[1])
    if int(address) >> 32 == 0 and int(address) > 0xFFFF:  # the old form, ::192.0.2.1
        found.append(ipaddress.IPv4Address(int(address)))
    return found
