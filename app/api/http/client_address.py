"""Determines the client's IP address: the peer of the connection, or `X-Forwarded-For` from a trusted proxy. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_IPV6_CLIENT_BITS = 64
"""An Internet provider assigns each customer at least a /64 network."""


def parse_address(text: str) -> IPAddress | None:
    """The address in `text`, without port and zone. An IPv4-mapped IPv6 address becomes the IPv4 address. None if it is no address."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Networks such as `10.0.0.0/8`, or single addresses, separated by commas. Raises `ValueError`."""
    return tuple(ip_network(each.strip(), strict=False) for each in text.split(",") if each.strip())


class TrustedProxies:
    """The networks of the reverse proxies whose `X-Forwarded-For` is trusted."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._networks = tuple(networks)

    def contains(self, address: str) -> bool:
        parsed = parse_address(address) if self._networks else None
        return parsed is not None and self._contain(parsed)

    def find_client_address(self, peer: str, forwarded_for: Iterable[bytes]) -> str:
        """The last address in the values of `X-Forwarded-For` that is no trusted proxy. `peer` must be a trusted proxy; it is the result if
        `X-Forwarded-For` has no valid address at its end."""
        client = peer
        for entry in reversed(b",".join(forwarded_for).decode("latin-1").split(",")):
            address = parse_address(entry)
            if address is None:
                break
            client = str(address)
            if not self._contain(address):
                break
        return client

    def _contain(self, address: IPAddress) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def client_key(address: str) -> str:
    """The key under which a client is counted: the IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_CLIENT_BITS), strict=False))
    return str(parsed or address)
