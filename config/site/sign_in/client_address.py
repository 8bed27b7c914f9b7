"""The address that a request comes from; X-Forwarded-For is read only if a trusted proxy wrote it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

Address = IPv4Address | IPv6Address
# A household or a company has a whole network of this size and can use any of its addresses.
IPV6_PREFIX = 64


def client_address(request: HttpRequest) -> str:
    """Return the nearest address that is not a trusted proxy's; if there is none, the farthest trusted proxy's.

    Return "" if the request has no address, as on a Unix socket.
    """
    hops = [request.META.get("REMOTE_ADDR", "")]
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    hops += [hop.strip() for hop in reversed(forwarded.split(","))] if forwarded else []
    nearest = ""
    for hop in hops:
        address = _parsed(hop)
        if address is None:
            # Not an address: a Unix socket, or something that the client made up.
            break
        nearest = str(address)
        if not _is_trusted(address):
            break
    return nearest


def throttled_address(request: HttpRequest) -> str:
    """Return the address under which failed logins with this request are counted."""
    return counted_address(client_address(request))


def counted_address(address: str) -> str:
    """Return the address under which failed logins from `address` are counted: for IPv6, its network."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, IPV6_PREFIX), strict=False))
    return address


def _parsed(text: str) -> Address | None:
    """Return the address in "192.0.2.1", "192.0.2.1:5000", "2001:db8::1" or "[2001:db8::1]:5000"; otherwise None."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)
