"""Opens the listening sockets, before any service is opened: a process that cannot get the port touches no data."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil

from app.config import SettingsError

BACKLOG = 2048
"""Connections that wait to be accepted."""
_UNSUPPORTED_FAMILY_ERRORS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""A name such as `localhost` may resolve to an address family that this machine does not support."""


def open_listening_sockets(
    host: str, port: int, backlog: int = BACKLOG, *, settings: tuple[str, str] = ("IMMICH_HOST", "IMMICH_PORT")
) -> list[socket.socket]:
    """One listening socket for each address of `host`; the caller closes them. Clients wait in the backlog until the service accepts.

    `settings`: the names of the settings that have host and port. Raises `SettingsError`, which names the setting and, for a taken port, the
    process that has it.
    """
    host_setting, port_setting = settings
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "no name of a host"
        raise SettingsError(f"{host_setting}: {host!r}: {reason}") from None
    sockets: list[socket.socket] = []
    unsupported: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in addresses):
        try:
            sockets.append(_listen_on(family, address, backlog))
        except OSError as error:
            if error.errno in _UNSUPPORTED_FAMILY_ERRORS:
                unsupported = error
                continue
            _close(sockets)
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(
                    f"{port_setting}: port {port} of {address[0]} is taken by {_describe_port_owner(port)}"
                ) from None
            raise SettingsError(
                f"{port_setting}: cannot listen on port {port} of {address[0]}: {error.strerror}"
            ) from None
    if not sockets:
        raise SettingsError(
            f"{host_setting}: cannot listen on {host!r}: {unsupported.strerror if unsupported else 'no address'}"
        )
    return sockets


def is_readable(connection: socket.socket) -> bool:
    """Whether reading, or accepting, would not wait. False for a closed socket."""
    if connection.fileno() < 0:
        return False
    poll = select.poll()  # `select.select` takes no descriptors above 1,023
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _listen_on(family: int, address: tuple[str | int, ...] | tuple[int, bytes], backlog: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` must not take IPv4 too: 0.0.0.0 gets a socket of its own
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening


def _describe_port_owner(port: int) -> str:
    """The process that listens on the port, if this user is permitted to see it."""
    with suppress(psutil.Error):
        for owner, connection in _list_tcp_connections():
            if owner and connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return f"{psutil.Process(owner).name()} (process {owner})"
    return "another program"


def _list_tcp_connections() -> Iterator[tuple[int | None, Any]]:
    """The process ids and connections of this machine. In one call: asked for each process, psutil would parse the kernel's whole table each
    time."""
    try:
        yield from ((connection.pid, connection) for connection in psutil.net_connections("tcp"))
    except psutil.AccessDenied:  # on macOS, unless the user is root
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                yield from ((process.pid, connection) for connection in process.net_connections("tcp"))


def _close(sockets: list[socket.socket]) -> None:
    for listening in sockets:
        listening.close()
