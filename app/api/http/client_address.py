"""Whose request it is: the address of the connection, or what a trusted proxy forwards. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_IPV6_CLIENT_BITS = 64
"""What one customer of a provider gets of IPv6, at least."""


def parse_address(text: str) -> IPAddress | None:
    """Without port and zone; an IPv4 address in IPv6 form is that IPv4 address. None for what is no address."""
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
    """The networks whose `X-Forwarded-For` is believed."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._networks = tuple(networks)

    def contains(self, address: str) -> bool:
        parsed = parse_address(address) if self._networks else None
        return parsed is not None and self._contain(parsed)

    def find_client_address(self, peer: str, forwarded_for: Iterable[bytes]) -> str:
        """The last address in the values of `X-Forwarded-For` that is no trusted proxy's; `peer` must be one."""
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
    """What counts as one client: an IPv4 address, or the network of 64 bits around an IPv6 address."""
    if ":" not in address:
        return address
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_CLIENT_BITS), strict=False))
    return str(parsed or address)
