"""The connections of one process: how many there may be, of whom, and how slowly their clients may take the answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from app.api.client_address import TrustedProxies, parse_networks, site
from app.api.refusal_log import RefusalLog
from app.config import Settings

RATE_WINDOW_SECONDS = 60.0
LOOK_SECONDS = 1.0
TURNS = 8
LINGERING = 200
"""Connections without a place, already refused, that are read on from so that their clients get to read why."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
"""Programs of this host, its reverse proxy among them: not bounded by address."""
_BYTES_ACKNOWLEDGED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux' `struct tcp_info`."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`minimum_rate` in bytes per second over `rate_window` seconds spent waiting for the client; `per_address` bounds connections,
    and of those who come through a trusted proxy the requests at once."""

    connections: int
    per_address: int
    idle_seconds: float
    minimum_rate: int
    rate_window: float = RATE_WINDOW_SECONDS


class Admission(Enum):
    """What a connection may do. `HEALTH_ONLY`: ask whether the service lives and is ready. `REFUSED`: read why."""

    ADMITTED = auto()
    HEALTH_ONLY = auto()
    REFUSED = auto()


class Connections:
    """Counts connections and requests by address, and cuts off clients that stall. One for all protocols of a server."""

    def __init__(
        self, limits: ConnectionLimits, refusals: RefusalLog | None = None, trusted: TrustedProxies | None = None
    ) -> None:
        self._limits = limits
        self.trusted = trusted or TrustedProxies()
        self.refusals = refusals or RefusalLog()
        self._count = 0
        self._admitted: Counter[str] = Counter()
        self._waiting: dict[str, dict[asyncio.Transport, Callable[[], None]]] = {}
        self._lingering: set[asyncio.Transport] = set()
        self._requests: Counter[str] = Counter()
        self._readers: dict[asyncio.Transport, AnswerPace] = {}
        self._look: asyncio.TimerHandle | None = None
        self._turns: deque[Callable[[], None]] = deque()

    def enter(
        self, address: str, transport: asyncio.Transport, *, trusted: bool, give_way: Callable[[], None]
    ) -> Admission:
        """Of a connection from `address`; `leave` must follow. Without a place it may ask for health, until `give_way` is called, which must
        refuse it: when places for that run out, the oldest connection of the address that has most of them makes room."""
        self._readers[transport] = AnswerPace(self._limits)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(self._interval, self._cut_stalled)
        if self.admit(address, trusted=trusted):
            return Admission.ADMITTED
        client = site(address)
        if self._bounds(address, trusted=trusted) and len(self._waiting.get(client, ())) >= self._limits.per_address:
            self._make_room(client)
        elif sum(map(len, self._waiting.values())) >= self._limits.connections:
            self._make_room(max(self._waiting, key=lambda each: len(self._waiting[each])))
        self._waiting.setdefault(client, {})[transport] = give_way
        return Admission.HEALTH_ONLY

    def admit(self, address: str, *, trusted: bool) -> bool:
        """Take a place for a connection from `address`, if there is one."""
        if self.why_full(address, trusted=trusted) is not None:
            return False
        self._admitted[site(address)] += 1
        self._count += 1
        return True

    def why_full(self, address: str, *, trusted: bool, forwards: bool = False) -> str | None:
        """Why there is no place for one more connection from `address`; None if there is one. `forwards`: it sends `X-Forwarded-For`."""
        if self._count >= self._limits.connections:
            return f"Too many connections, try later: {self._limits.connections} are open (MEDIAVAULT_CONNECTIONS)"
        if not self._bounds(address, trusted=trusted) or self._admitted[site(address)] < self._limits.per_address:
            return None
        bound = f"{self._limits.per_address} (MEDIAVAULT_CONNECTIONS_PER_ADDRESS)"
        proxy = "it looks like a proxy:" if forwards else "if it is a proxy,"
        return f"Too many connections from {address}, at most {bound}; {proxy} set MEDIAVAULT_TRUSTED_PROXIES"

    def promote(self, address: str, transport: asyncio.Transport, *, trusted: bool) -> bool:
        """Give a connection that may ask for health only a place, if there is one now."""
        if not self.admit(address, trusted=trusted):
            return False
        self._wait_no_more(address, transport)
        return True

    def linger(self, address: str, transport: asyncio.Transport) -> bool:
        """A connection that may ask for health only has its last answer: its place is free. Whether more may be read from it."""
        self._wait_no_more(address, transport)
        if len(self._lingering) >= LINGERING:
            return False
        self._lingering.add(transport)
        return True

    def leave(self, address: str, transport: asyncio.Transport, admission: Admission) -> None:
        if admission is Admission.ADMITTED:
            self._count -= 1
            _take_one(self._admitted, site(address))
        else:
            self._wait_no_more(address, transport)
            self._lingering.discard(transport)
        self._readers.pop(transport, None)

    def _bounds(self, address: str, *, trusted: bool) -> bool:
        return not trusted and address not in LOOPBACK

    def _make_room(self, client: str) -> None:
        waiting = self._waiting[client]
        give_way = waiting.pop(next(iter(waiting)))
        if not waiting:
            del self._waiting[client]
        give_way()

    def _wait_no_more(self, address: str, transport: asyncio.Transport) -> None:
        client = site(address)
        waiting = self._waiting.get(client)
        if waiting is not None and waiting.pop(transport, None) is not None and not waiting:
            del self._waiting[client]

    def begin_request(self, client: str) -> bool:
        """Of a client behind a trusted proxy; unless False is returned, `end_request` must follow."""
        if client not in LOOPBACK and self._requests[site(client)] >= self._limits.per_address:
            return False
        self._requests[site(client)] += 1
        return True

    def why_busy(self, client: str) -> str:
        bound = f"{self._limits.per_address} (MEDIAVAULT_CONNECTIONS_PER_ADDRESS)"
        return f"Too many requests at once from {client}, at most {bound}, try later"

    def end_request(self, client: str) -> None:
        _take_one(self._requests, site(client))

    def take_turn(self, go_on: Callable[[], None]) -> None:
        """Call `go_on`, which begins with a request that was sent before the one ahead of it was answered, a few at each pass of the
        event loop: whoever sends one request at a time does not wait behind all who send many."""
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        self._turns.append(go_on)

    def _take_turns(self) -> None:
        now = [self._turns.popleft() for _ in range(min(TURNS, len(self._turns)))]
        if self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        for go_on in now:
            go_on()

    @property
    def _interval(self) -> float:
        return min(LOOK_SECONDS, self._limits.idle_seconds / 4)

    def _cut_stalled(self) -> None:
        now = asyncio.get_running_loop().time()
        for transport, why in list(self._stalled(now)):
            client = (transport.get_extra_info("peername") or ("",))[0]
            self.refusals.note_cut("answer cut short", client, why)
            transport.abort()
        self.refusals.flush()
        if self._readers or self.refusals.pending:
            self._look = asyncio.get_running_loop().call_later(self._interval, self._cut_stalled)
        else:
            self._look = None

    def _stalled(self, now: float) -> Iterator[tuple[asyncio.Transport, str]]:
        for transport, pace in self._readers.items():
            unsent = transport.get_write_buffer_size()
            if not unsent:
                pace.reset()
            elif why := pace.too_slow(now, _acknowledged(transport), unsent):
                yield transport, why


class AnswerPace:
    """Measures how fast a client takes what waits to be sent to it. Time in which nothing waits does not count."""

    __slots__ = ("_acknowledged", "_limits", "_moment", "_progress", "_taken", "_unsent", "_waited")

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._waited = 0.0
        self._taken = 0
        self._progress = self._moment = 0.0
        self._acknowledged = self._unsent = 0

    def reset(self) -> None:
        """Nothing waits. What was measured before goes on counting when something waits again."""
        self._moment = 0.0

    def too_slow(self, now: float, acknowledged: int, unsent: int) -> str | None:
        """Why the client is to be cut off; None while it is not. `acknowledged`: bytes since the connection began."""
        if not self._moment or (acknowledged, unsent) != (self._acknowledged, self._unsent):
            self._progress = now
        if self._moment:
            self._waited += now - self._moment
            self._taken += acknowledged - self._acknowledged
        self._moment, self._acknowledged, self._unsent = now, acknowledged, unsent
        if now - self._progress >= self._limits.idle_seconds:
            return f"The client took nothing for {self._limits.idle_seconds:g} seconds"
        if self._waited >= self._limits.rate_window:
            # A kernel that does not count what was acknowledged tells 0.
            slow = acknowledged and self._taken < self._limits.minimum_rate * self._waited
            self._waited, self._taken = 0.0, 0
            if slow:
                return f"The client took less than {self._limits.minimum_rate} bytes per second"
        return None


def _acknowledged(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    with suppress(OSError, struct.error):
        return _BYTES_ACKNOWLEDGED.unpack(
            connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKNOWLEDGED.size)
        )[0]
    return 0


def _take_one(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def connections_of(settings: Settings, refusals: RefusalLog) -> Connections:
    """For one server."""
    limits = ConnectionLimits(
        connections=settings.connections,
        per_address=settings.connections_per_address,
        idle_seconds=settings.download_idle_seconds,
        minimum_rate=settings.download_minimum_rate,
    )
    return Connections(limits, refusals, TrustedProxies(parse_networks(settings.trusted_proxies)))
