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

from app.api.http.client_address import TrustedProxies, client_key, parse_networks
from app.api.http.refusal_log import RefusalLog
from app.config import Settings

RATE_WINDOW_SECONDS = 60.0
STALL_CHECK_SECONDS = 1.0
TURNS_PER_PASS = 8
MAX_LINGERING = 200
"""Connections without a place, already refused, that are read on from so that their clients get to read why."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
"""Programs of this host, its reverse proxy among them: not bounded by address."""
_BYTES_ACKNOWLEDGED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux' `struct tcp_info`."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`minimum_rate` in bytes per second over `rate_window` seconds spent waiting for the client; `max_per_address` bounds connections,
    and of those who come through a trusted proxy the requests at once."""

    max_connections: int
    max_per_address: int
    idle_seconds: float
    minimum_rate: int
    rate_window: float = RATE_WINDOW_SECONDS


class ConnectionAdmission(Enum):
    """What a connection may do. `HEALTH_ONLY`: ask whether the service lives and is ready. `REFUSED`: read why."""

    ADMITTED = auto()
    HEALTH_ONLY = auto()
    REFUSED = auto()


class ConnectionRegistry:
    """Counts connections and requests by address, and cuts off clients that stall. One for all protocols of a server."""

    def __init__(
        self,
        limits: ConnectionLimits,
        refusal_log: RefusalLog | None = None,
        trusted_proxies: TrustedProxies | None = None,
    ) -> None:
        self._limits = limits
        self.trusted_proxies = trusted_proxies or TrustedProxies()
        self.refusal_log = refusal_log or RefusalLog()
        self._count = 0
        self._admitted: Counter[str] = Counter()
        self._waiting: dict[str, dict[asyncio.Transport, Callable[[], None]]] = {}
        self._lingering: set[asyncio.Transport] = set()
        self._requests: Counter[str] = Counter()
        self._response_rates: dict[asyncio.Transport, ResponseRateMeter] = {}
        self._stall_check: asyncio.TimerHandle | None = None
        self._turns: deque[Callable[[], None]] = deque()

    def register(
        self, address: str, transport: asyncio.Transport, *, trusted: bool, on_evicted: Callable[[], None]
    ) -> ConnectionAdmission:
        """Of a connection from `address`; `unregister` must follow. Without a place it may ask for health, until `on_evicted` is called, which must
        refuse it: when places for that run out, the oldest connection of the address that has most of them makes room."""
        self._response_rates[transport] = ResponseRateMeter(self._limits)
        if self._stall_check is None:
            self._stall_check = asyncio.get_running_loop().call_later(self._interval, self._cut_stalled)
        if self.admit(address, trusted=trusted):
            return ConnectionAdmission.ADMITTED
        client = client_key(address)
        if (
            self._is_bounded(address, trusted=trusted)
            and len(self._waiting.get(client, ())) >= self._limits.max_per_address
        ):
            self._evict_oldest(client)
        elif sum(map(len, self._waiting.values())) >= self._limits.max_connections:
            self._evict_oldest(max(self._waiting, key=lambda each: len(self._waiting[each])))
        self._waiting.setdefault(client, {})[transport] = on_evicted
        return ConnectionAdmission.HEALTH_ONLY

    def admit(self, address: str, *, trusted: bool) -> bool:
        """Take a place for a connection from `address`, if there is one."""
        if self.full_reason(address, trusted=trusted) is not None:
            return False
        self._admitted[client_key(address)] += 1
        self._count += 1
        return True

    def full_reason(self, address: str, *, trusted: bool, sends_forwarded_for: bool = False) -> str | None:
        """Why there is no place for one more connection from `address`; None if there is one. `sends_forwarded_for`: it sends `X-Forwarded-For`."""
        if self._count >= self._limits.max_connections:
            return f"Too many connections, try later: {self._limits.max_connections} are open (MEDIAVAULT_CONNECTIONS)"
        if (
            not self._is_bounded(address, trusted=trusted)
            or self._admitted[client_key(address)] < self._limits.max_per_address
        ):
            return None
        bound = f"{self._limits.max_per_address} (MEDIAVAULT_CONNECTIONS_PER_ADDRESS)"
        proxy = "it looks like a proxy:" if sends_forwarded_for else "if it is a proxy,"
        return f"Too many connections from {address}, at most {bound}; {proxy} set MEDIAVAULT_TRUSTED_PROXIES"

    def promote(self, address: str, transport: asyncio.Transport, *, trusted: bool) -> bool:
        """Give a connection that may ask for health only a place, if there is one now."""
        if not self.admit(address, trusted=trusted):
            return False
        self._stop_waiting(address, transport)
        return True

    def start_lingering(self, address: str, transport: asyncio.Transport) -> bool:
        """A connection that may ask for health only has its last answer: its place is free. Whether more may be read from it."""
        self._stop_waiting(address, transport)
        if len(self._lingering) >= MAX_LINGERING:
            return False
        self._lingering.add(transport)
        return True

    def unregister(self, address: str, transport: asyncio.Transport, admission: ConnectionAdmission) -> None:
        if admission is ConnectionAdmission.ADMITTED:
            self._count -= 1
            _decrement(self._admitted, client_key(address))
        else:
            self._stop_waiting(address, transport)
            self._lingering.discard(transport)
        self._response_rates.pop(transport, None)

    def _is_bounded(self, address: str, *, trusted: bool) -> bool:
        return not trusted and address not in LOOPBACK

    def _evict_oldest(self, client: str) -> None:
        waiting = self._waiting[client]
        give_way = waiting.pop(next(iter(waiting)))
        if not waiting:
            del self._waiting[client]
        give_way()

    def _stop_waiting(self, address: str, transport: asyncio.Transport) -> None:
        client = client_key(address)
        waiting = self._waiting.get(client)
        if waiting is not None and waiting.pop(transport, None) is not None and not waiting:
            del self._waiting[client]

    def begin_request(self, client: str) -> bool:
        """Of a client behind a trusted proxy; unless False is returned, `end_request` must follow."""
        if client not in LOOPBACK and self._requests[client_key(client)] >= self._limits.max_per_address:
            return False
        self._requests[client_key(client)] += 1
        return True

    def busy_reason(self, client: str) -> str:
        bound = f"{self._limits.max_per_address} (MEDIAVAULT_CONNECTIONS_PER_ADDRESS)"
        return f"Too many requests at once from {client}, at most {bound}, try later"

    def end_request(self, client: str) -> None:
        _decrement(self._requests, client_key(client))

    def schedule_turn(self, on_turn: Callable[[], None]) -> None:
        """Call `on_turn`, which begins with a request that was sent before the one ahead of it was answered, a few at each pass of the
        event loop: whoever sends one request at a time does not wait behind all who send many."""
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        self._turns.append(on_turn)

    def _take_turns(self) -> None:
        now = [self._turns.popleft() for _ in range(min(TURNS_PER_PASS, len(self._turns)))]
        if self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        for go_on in now:
            go_on()

    @property
    def _interval(self) -> float:
        return min(STALL_CHECK_SECONDS, self._limits.idle_seconds / 4)

    def _cut_stalled(self) -> None:
        now = asyncio.get_running_loop().time()
        for transport, why in list(self._stalled(now)):
            client = (transport.get_extra_info("peername") or ("",))[0]
            self.refusal_log.log_cut_short("answer cut short", client, why)
            transport.abort()
        self.refusal_log.flush()
        if self._response_rates or self.refusal_log.has_pending:
            self._stall_check = asyncio.get_running_loop().call_later(self._interval, self._cut_stalled)
        else:
            self._stall_check = None

    def _stalled(self, now: float) -> Iterator[tuple[asyncio.Transport, str]]:
        for transport, pace in self._response_rates.items():
            unsent = transport.get_write_buffer_size()
            if not unsent:
                pace.reset()
            elif why := pace.slow_reason(now, _acknowledged(transport), unsent):
                yield transport, why


class ResponseRateMeter:
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

    def slow_reason(self, now: float, acknowledged: int, unsent: int) -> str | None:
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


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def create_connection_registry(settings: Settings, refusal_log: RefusalLog) -> ConnectionRegistry:
    """For one server."""
    limits = ConnectionLimits(
        max_connections=settings.connections,
        max_per_address=settings.connections_per_address,
        idle_seconds=settings.download_idle_seconds,
        minimum_rate=settings.download_minimum_rate,
    )
    return ConnectionRegistry(limits, refusal_log, TrustedProxies(parse_networks(settings.trusted_proxies)))
