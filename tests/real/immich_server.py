"""A stand-in for an Immich server behind the same proxy: it answers every request, and says that it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

ANSWERED_BY = "x-answered-by"
CONTENT = b"from Immich"


class ImmichServer:
    """`requests`: method, path and body of each request, in their order."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                received.append((self.command, self.path, body))
                is_file = self.path.split("?")[0].endswith(("/original", "/thumbnail", "/playback"))
                content = CONTENT if is_file else json.dumps({"answeredBy": "immich", "path": self.path}).encode()
                self.send_response(200)
                self.send_header(ANSWERED_BY, "immich")
                self.send_header("content-type", "application/octet-stream" if is_file else "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the names that the server calls

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
