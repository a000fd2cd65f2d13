"""A TCP proxy that resets connections after a number of bytes, as a mobile network does."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

PATIENCE = 30.0
_PIECE = 16 * 1024


class CuttingProxy:
    """Forwards to `upstream` on 127.0.0.1. `cuts` has, for each connection in turn, the bytes of the client after which both sides are
    reset; the connections after the last of them are left alone."""

    def __init__(self, upstream: int, cuts: Iterator[int]) -> None:
        self._upstream = upstream
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, name="cutting proxy", daemon=True)
        self.cut = 0
        """Connections that were cut so far."""

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client, next(self._cuts, None)), daemon=True).start()

    def _forward(self, client: socket.socket, limit: int | None) -> None:
        server = socket.create_connection(("127.0.0.1", self._upstream), PATIENCE)
        client.settimeout(PATIENCE)
        threading.Thread(target=_copy, args=(server, client), daemon=True).start()
        left = limit
        with suppress(OSError):
            while left is None or left > 0:
                data = client.recv(_PIECE if left is None else min(left, _PIECE))
                if not data:
                    break
                server.sendall(data)
                left = None if left is None else left - len(data)
        if left == 0:
            self.cut += 1
        _reset(client)
        _reset(server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
