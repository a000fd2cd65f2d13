"""Determines the client's IP address and scheme: those of the connection, or what a trusted proxy tells in `X-Forwarded-For` and
`X-Forwarded-Proto`, or in `Forwarded` (RFC 7239). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
FORWARDED = b"forwarded"

_CACHED_CLIENTS = 1024
_MAX_CACHED_LENGTH = 256
"""In characters: so the cache holds at most a quarter of a mebibyte of what clients have sent."""
_SCHEMES = frozenset({"http", "https"})
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[ \t]*({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*(;|,|$)')
_ESCAPED = re.compile(r"\\(.)")
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


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """`scheme`: that of the client's request to the proxy, `http` or `https`; None if the proxies do not tell it."""

    address: str
    scheme: str | None = None


class TrustedProxies:
    """The networks of the reverse proxies that are believed about their clients."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._networks = tuple(networks)
        self._find_cached = lru_cache(_CACHED_CLIENTS)(self._find)

    def contains(self, address: str) -> bool:
        parsed = parse_address(address) if self._networks else None
        return parsed is not None and self._contain(parsed)

    def find_client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> ForwardedClient:
        """The client of a request that came from `peer`, a trusted proxy; `headers` have names in lower case.

        Its address is the last one of the field that is no trusted proxy's, or `peer`'s if the field ends without a valid address. A proxy
        passes on the field that it does not write itself, so a client can send that one: where `X-Forwarded-For` and `Forwarded` name
        different clients, neither is believed."""
        values: dict[bytes, str] = {}
        for name, value in headers:
            if name in (FORWARDED_FOR, FORWARDED_PROTO, FORWARDED):
                text = value.decode("latin-1")
                values[name] = f"{values[name]},{text}" if name in values else text
        find = self._find_cached if sum(map(len, values.values())) <= _MAX_CACHED_LENGTH else self._find
        return find(peer, values.get(FORWARDED_FOR), values.get(FORWARDED_PROTO, ""), values.get(FORWARDED))

    def _find(
        self, peer: str, forwarded_for: str | None, forwarded_proto: str, forwarded: str | None
    ) -> ForwardedClient:
        """`find_client`, by the values of the fields."""
        clients: list[ForwardedClient] = []
        if forwarded_for is not None:
            scheme = forwarded_proto.rpartition(",")[2].strip().lower()
            hops = [(address, scheme) for address in forwarded_for.split(",")]
            clients.append(self._find_outermost(peer, hops))
        if forwarded is not None:
            clients.append(self._find_outermost(peer, parse_forwarded(forwarded)))
        if not clients or clients[0].address != clients[-1].address:
            return ForwardedClient(peer)
        return clients[0]

    def _find_outermost(self, peer: str, hops: Sequence[tuple[str, str]]) -> ForwardedClient:
        """`hops`: address and scheme that each proxy tells of its client, the outermost first."""
        client = ForwardedClient(peer)
        for text, scheme in reversed(hops):
            address = parse_address(text)
            if address is None:
                break
            client = ForwardedClient(str(address), scheme if scheme in _SCHEMES else None)
            if not self._contain(address):
                break
        return client

    def _contain(self, address: IPAddress) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def parse_forwarded(text: str) -> list[tuple[str, str]]:
    """`for` and `proto` of each element of a `Forwarded` field (RFC 7239 section 4), empty where they are missing. Nothing for a malformed
    field."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is None:
            return []
        name, token, quoted, separator = parameter.groups()
        elements[-1][name.lower()] = _ESCAPED.sub(r"\1", quoted) if token is None else token
        if separator == ",":
            elements.append({})
        position = parameter.end()
    return [(element.get("for", ""), element.get("proto", "").lower()) for element in elements]


def client_key(address: str) -> str:
    """The key under which a client is counted: the IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_CLIENT_BITS), strict=False))
    return str(parsed or address)
