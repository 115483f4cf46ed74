"""IP addresses and networks: Kubernetes' `ip` and `cidr` (`k8s.io/apiserver/pkg/cel/library`)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

from aggmw.objects.cel.errors import CelEvaluationError
from aggmw.objects.cel.functions import Library

__all__ = ["library"]

library = Library()
IP = IPv4Address | IPv6Address
CIDR = IPv4Interface | IPv6Interface


def _address(text: str) -> IP | None:
    """An address as Go's `netip` reads it: no zone, no IPv4 in IPv6, no zeros in front."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and (found.scope_id is not None or found.ipv4_mapped is not None):
        return None
    return found


def _network(text: str) -> CIDR | None:
    address, slash, length = text.partition("/")
    known = _address(address)
    digits = length.isascii() and length.isdigit() and str(int(length)) == length if len(length) < 4 else False
    if not slash or known is None or not digits or int(length) > known.max_prefixlen:
        return None
    return ip_interface(text)


@library.overload("isIP(string) -> bool")
def _is_ip(text: str) -> bool:
    return _address(text) is not None


@library.overload("ip(string) -> ip")
def _ip(text: str) -> IP:
    found = _address(text)
    if found is None:
        raise CelEvaluationError("IP address parse error during conversion from string")
    return found


@library.overload("@ip.isCanonical(string) -> bool")
def _is_canonical(text: str) -> bool:
    return str(_ip(text)) == text


@library.overload("isCIDR(string) -> bool")
def _is_cidr(text: str) -> bool:
    return _network(text) is not None


@library.overload("cidr(string) -> cidr")
def _cidr(text: str) -> CIDR:
    found = _network(text)
    if found is None:
        raise CelEvaluationError("network address parse error during conversion from string")
    return found


library.add("string(ip) -> string", str)
library.add("string(cidr) -> string", str)
library.add("ip.family() -> int", lambda ip: ip.version)
library.add("ip.isUnspecified() -> bool", lambda ip: ip.is_unspecified)
library.add("ip.isLoopback() -> bool", lambda ip: ip.is_loopback)


@library.overload("ip.isLinkLocalMulticast() -> bool")
def _is_link_local_multicast(ip: IP) -> bool:
    if isinstance(ip, IPv4Address):
        return ip in ip_interface("224.0.0.0/24").network
    return ip in ip_interface("ff02::/16").network


@library.overload("ip.isLinkLocalUnicast() -> bool")
def _is_link_local_unicast(ip: IP) -> bool:
    return bool(ip.is_link_local)


@library.overload("ip.isGlobalUnicast() -> bool")
def _is_global_unicast(ip: IP) -> bool:
    # Go's meaning: also private addresses.
    broadcast = isinstance(ip, IPv4Address) and ip == IPv4Address("255.255.255.255")
    return not (broadcast or ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local)


library.add("cidr.ip() -> ip", lambda cidr: cidr.ip)
library.add("cidr.prefixLength() -> int", lambda cidr: cidr.network.prefixlen)
library.add("cidr.masked() -> cidr", lambda cidr: ip_interface(str(cidr.network)))


@library.overload("cidr.containsIP(ip) -> bool")
def _contains_ip(cidr: CIDR, ip: IP) -> bool:
    return cidr.version == ip.version and ip in cidr.network


@library.overload("cidr.containsIP(string) -> bool")
def _contains_ip_text(cidr: CIDR, text: str) -> bool:
    return _contains_ip(cidr, _ip(text))


@library.overload("cidr.containsCIDR(cidr) -> bool")
def _contains_cidr(cidr: CIDR, other: CIDR) -> bool:
    # Go compares the masked network of the one with the address of the other.
    return _contains_ip(cidr, other.ip) and cidr.network.prefixlen <= other.network.prefixlen


@library.overload("cidr.containsCIDR(string) -> bool")
def _contains_cidr_text(cidr: CIDR, text: str) -> bool:
    return _contains_cidr(cidr, _cidr(text))
