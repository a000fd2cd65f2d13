"""Limits the connections of one process: their number in all and per client address, and the minimum rate at which clients read.

Does not parse requests: `protocol` does, and calls the registry here.
"""

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
from app.api.http.responses.socket_poller import SocketPoller
from app.config import Settings

RATE_WINDOW_SECONDS = 60.0
STALL_CHECK_SECONDS = 1.0
LEAST_IDLE_SECONDS = 1.0
"""How long a connection must have been idle to be closed for another one: a request may be on its way over a newer one."""
TURNS_PER_PASS = 8
"""Pipelined requests that begin in one pass of the event loop."""
MAX_LINGERING = 200
"""Refused connections that are still read from before the close, so that their clients can read the response (lingering close)."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
"""Programs on this host, for example a reverse proxy: no limit per address applies."""
_BYTES_ACKNOWLEDGED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` of Linux' `struct tcp_info`."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`minimum_rate`: bytes per second, averaged over `rate_window` seconds spent waiting for the client. `idle_seconds`: how long a client
    may read nothing.

    `max_per_address` bounds the connections of a client; for clients behind a trusted proxy it bounds their concurrent requests.
    """

    max_connections: int
    max_per_address: int
    idle_seconds: float
    minimum_rate: int
    rate_window: float = RATE_WINDOW_SECONDS


class ConnectionAdmission(Enum):
    """Which requests a connection may send. `HEALTH_ONLY`: those for `HEALTH_PATHS` only. `REFUSED`: none; it reads its last response."""

    ADMITTED = auto()
    HEALTH_ONLY = auto()
    REFUSED = auto()


class ConnectionRegistry:
    """Counts connections and requests by client address, and aborts connections whose clients read too slowly. One per server."""

    def __init__(
        self,
        limits: ConnectionLimits,
        refusal_log: RefusalLog | None = None,
        trusted_proxies: TrustedProxies | None = None,
    ) -> None:
        self._limits = limits
        self.trusted_proxies = trusted_proxies or TrustedProxies()
        self.refusal_log = refusal_log or RefusalLog()
        self.poller = SocketPoller()
        """Waits for the clients of the connections, where their transports do not."""
        self.is_draining = False
        """The process is stopping: each connection closes after its next response."""
        self._count = 0
        self._admitted: Counter[str] = Counter()
        self._health_only: dict[str, dict[asyncio.Transport, Callable[[], None]]] = {}
        """By client key, in the order of arrival: the connections over the limit, with their `on_evicted`."""
        self._lingering: set[asyncio.Transport] = set()
        self._idle: dict[asyncio.Transport, tuple[str, float, Callable[[], None]]] = {}
        """Admitted connections without a request, longest first: client address, since when, and what closes them."""
        self._requests: Counter[str] = Counter()
        self._response_rates: dict[asyncio.Transport, tuple[ResponseRateMeter, Callable[[], int]]] = {}
        """With each meter, what counts the bytes that wait for the client."""
        self._stall_check: asyncio.TimerHandle | None = None
        self._turns: deque[Callable[[], None]] = deque()

    def count_connections(self) -> dict[str, int]:
        """Open connections by state."""
        return {"admitted": self._count, "over_limit": sum(map(len, self._health_only.values()))}

    def register(
        self,
        address: str,
        transport: asyncio.Transport,
        *,
        trusted: bool,
        on_evicted: Callable[[], None],
        count_unsent_bytes: Callable[[], int] | None = None,
    ) -> ConnectionAdmission:
        """Add a connection from `address`; `unregister` must follow.

        A connection over the limit is `HEALTH_ONLY`. Those are bounded too: the oldest one of the client that has most of them is
        evicted for a new one. `on_evicted` is called then, and must refuse the connection. `count_unsent_bytes` counts the bytes that wait
        for the client; without it, those of the transport's buffer do.
        """
        self._response_rates[transport] = (
            ResponseRateMeter(self._limits),
            count_unsent_bytes or transport.get_write_buffer_size,
        )
        if self._stall_check is None:
            self._stall_check = asyncio.get_running_loop().call_later(self._stall_check_interval, self._abort_stalled)
        if self.admit(address, trusted=trusted):
            return ConnectionAdmission.ADMITTED
        client = client_key(address)
        if (
            self._is_bounded(address, trusted=trusted)
            and len(self._health_only.get(client, ())) >= self._limits.max_per_address
        ):
            self._evict_oldest(client)
        elif sum(map(len, self._health_only.values())) >= self._limits.max_connections:
            self._evict_oldest(max(self._health_only, key=lambda each: len(self._health_only[each])))
        self._health_only.setdefault(client, {})[transport] = on_evicted
        return ConnectionAdmission.HEALTH_ONLY

    def admit(self, address: str, *, trusted: bool) -> bool:
        """Count one more connection from `address` if the limits allow it."""
        if self.rejection_reason(address, trusted=trusted) is not None:
            return False
        self._admitted[client_key(address)] += 1
        self._count += 1
        return True

    def rejection_reason(self, address: str, *, trusted: bool, sends_forwarded_for: bool = False) -> str | None:
        """Why the limits do not allow one more connection from `address`; None if they do.

        `sends_forwarded_for`: the request has `X-Forwarded-For`, so the client is probably a proxy.
        """
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

    def admit_waiting(self, address: str, transport: asyncio.Transport, *, trusted: bool) -> bool:
        """Admit a `HEALTH_ONLY` connection, which has sent a request, if the limits allow it now, or an idle connection can be closed for it."""
        if self._count >= self._limits.max_connections:
            self._close_longest_idle()
        if not self.admit(address, trusted=trusted):
            return False
        self._remove_health_only(address, transport)
        return True

    def mark_idle(self, address: str, transport: asyncio.Transport, on_closed: Callable[[], None]) -> float:
        """An admitted connection waits for a request. It may be closed for another connection: `on_closed` must close it, and it counts as
        `REFUSED` then. Returns the time on the loop's clock."""
        now = asyncio.get_running_loop().time()
        self._idle[transport] = (address, now, on_closed)
        return now

    def mark_busy(self, transport: asyncio.Transport) -> None:
        """A request has begun to arrive."""
        self._idle.pop(transport, None)

    def start_lingering(self, address: str, transport: asyncio.Transport) -> bool:
        """Release a `HEALTH_ONLY` connection after its last response. True if the connection may still be read from."""
        self._remove_health_only(address, transport)
        if len(self._lingering) >= MAX_LINGERING:
            return False
        self._lingering.add(transport)
        return True

    def unregister(self, address: str, transport: asyncio.Transport, admission: ConnectionAdmission) -> None:
        if admission is ConnectionAdmission.ADMITTED:
            self._count -= 1
            _decrement(self._admitted, client_key(address))
        else:
            self._remove_health_only(address, transport)
            self._lingering.discard(transport)
        self._response_rates.pop(transport, None)
        self._idle.pop(transport, None)

    def _close_longest_idle(self) -> None:
        transport = next(iter(self._idle), None)
        if transport is None:
            return
        address, since, on_closed = self._idle[transport]
        if asyncio.get_running_loop().time() - since < LEAST_IDLE_SECONDS:
            return
        del self._idle[transport]
        self._count -= 1
        _decrement(self._admitted, client_key(address))
        on_closed()

    def _is_bounded(self, address: str, *, trusted: bool) -> bool:
        return not trusted and address not in LOOPBACK

    def _evict_oldest(self, client: str) -> None:
        connections = self._health_only[client]
        on_evicted = connections.pop(next(iter(connections)))
        if not connections:
            del self._health_only[client]
        on_evicted()

    def _remove_health_only(self, address: str, transport: asyncio.Transport) -> None:
        client = client_key(address)
        connections = self._health_only.get(client)
        if connections is not None and connections.pop(transport, None) is not None and not connections:
            del self._health_only[client]

    def begin_request(self, client: str) -> bool:
        """Count a request of a client behind a trusted proxy. False if the client has too many; otherwise `end_request` must follow."""
        if client not in LOOPBACK and self._requests[client_key(client)] >= self._limits.max_per_address:
            return False
        self._requests[client_key(client)] += 1
        return True

    def busy_rejection_reason(self, client: str) -> str:
        bound = f"{self._limits.max_per_address} (MEDIAVAULT_CONNECTIONS_PER_ADDRESS)"
        return f"Too many requests at once from {client}, at most {bound}, try later"

    def end_request(self, client: str) -> None:
        _decrement(self._requests, client_key(client))

    def enqueue_request(self, on_turn: Callable[[], None]) -> None:
        """Call `on_turn` in a later pass of the event loop; it parses a pipelined request or the next part of a long chunked body.

        At most `TURNS_PER_PASS` run per pass, so that clients that send one request at a time do not wait behind pipelining clients.
        """
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        self._turns.append(on_turn)

    def _take_turns(self) -> None:
        due = [self._turns.popleft() for _ in range(min(TURNS_PER_PASS, len(self._turns)))]
        if self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        for on_turn in due:
            on_turn()

    @property
    def _stall_check_interval(self) -> float:
        return min(STALL_CHECK_SECONDS, self._limits.idle_seconds / 4)

    def _abort_stalled(self) -> None:
        now = asyncio.get_running_loop().time()
        for transport, reason in list(self._find_stalled(now)):
            client = (transport.get_extra_info("peername") or ("",))[0]
            self.refusal_log.log_cut_short("answer cut short", client, reason)
            transport.abort()
        self.refusal_log.flush()
        if self._response_rates or self.refusal_log.has_pending:
            self._stall_check = asyncio.get_running_loop().call_later(self._stall_check_interval, self._abort_stalled)
        else:
            self._stall_check = None

    def _find_stalled(self, now: float) -> Iterator[tuple[asyncio.Transport, str]]:
        for transport, (meter, count_unsent_bytes) in self._response_rates.items():
            unsent = count_unsent_bytes()
            if not unsent:
                meter.pause()
            elif reason := meter.cutoff_reason(now, _read_acknowledged_bytes(transport), unsent):
                yield transport, reason


class ResponseRateMeter:
    """Measures how fast a client reads its response. Time in which no bytes wait to be sent does not count."""

    __slots__ = ("_acknowledged", "_limits", "_measured_at", "_progress_at", "_taken", "_unsent", "_waited")

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._waited = 0.0
        self._taken = 0
        self._progress_at = self._measured_at = 0.0
        self._acknowledged = self._unsent = 0

    def pause(self) -> None:
        """Call while no bytes wait to be sent. Keeps the measured sums; they continue when bytes wait again."""
        self._measured_at = 0.0

    def cutoff_reason(self, now: float, acknowledged: int, unsent: int) -> str | None:
        """Why the connection must be aborted; None if the client is fast enough.

        `acknowledged`: bytes that the client's TCP has acknowledged since the connection began; `unsent`: bytes in the write buffer.
        """
        if not self._measured_at or (acknowledged, unsent) != (self._acknowledged, self._unsent):
            self._progress_at = now
        if self._measured_at:
            self._waited += now - self._measured_at
            self._taken += acknowledged - self._acknowledged
        self._measured_at, self._acknowledged, self._unsent = now, acknowledged, unsent
        if now - self._progress_at >= self._limits.idle_seconds:
            return f"The client took nothing for {self._limits.idle_seconds:g} seconds"
        if self._waited >= self._limits.rate_window:
            # A kernel that does not count acknowledged bytes reports 0.
            slow = acknowledged and self._taken < self._limits.minimum_rate * self._waited
            self._waited, self._taken = 0.0, 0
            if slow:
                return f"The client took less than {self._limits.minimum_rate} bytes per second"
        return None


def _read_acknowledged_bytes(transport: asyncio.Transport) -> int:
    """`tcpi_bytes_acked` of the connection; 0 if the kernel does not report it."""
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
    """The registry of one server, with the limits of `settings`."""
    limits = ConnectionLimits(
        max_connections=settings.connections,
        max_per_address=settings.connections_per_address,
        idle_seconds=settings.download_idle_seconds,
        minimum_rate=settings.download_minimum_rate,
    )
    return ConnectionRegistry(limits, refusal_log, TrustedProxies(parse_networks(settings.trusted_proxies)))
