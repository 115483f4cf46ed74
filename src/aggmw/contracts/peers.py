"""Whose word counts, by the address at the other end of this server's socket: never by a header."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

__all__ = ["Peers"]


class Peers:
    """Addresses of those whose word counts, such as who ends TLS in front of this server.

    Args:
        peers: addresses and networks, such as "10.0.0.7" and "10.1.0.0/24".

    Raises:
        ValueError: something that is neither, or none at all: whoever can set the field is whoever they say.
        TypeError: one string instead of several.
    """

    __slots__ = ("_networks",)

    def __init__(self, peers: Iterable[str]) -> None:
        if isinstance(peers, str):
            raise TypeError("peers takes a list of addresses and networks, not one string")
        self._networks = tuple([ipaddress.ip_network(each) for each in peers])
        if not self._networks:
            raise ValueError("peers needs at least one address or network: nobody else's word counts")

    def __repr__(self) -> str:
        return repr([str(each) for each in self._networks])

    def __contains__(self, address: object) -> bool:
        try:
            peer = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._networks)
