"""Interim responses (1xx, RFC 9110 section 15.2) before the final response of a request. uvicorn has none on HTTP/1.1 but `100 Continue`."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

from app.api.http.responses.uvicorn_cycle import UvicornRequestCycle

INTERIM_RESPONSES = "mediavault.interim_responses"
"""Key of the scope's extensions under which a request of HTTP/1.1 has its `InterimResponder`."""

_PROXY_FIELDS = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip"))
_REASONS = {104: b"Upload Resumption Supported"}


class InterimResponder:
    """Writes interim responses of one request. They are optional for the client: one that cannot be written at once is left out."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: UvicornRequestCycle) -> None:
        self._cycle = cycle

    def send(self, status: int, headers: Mapping[str, str]) -> bool:
        """Returns False, and does nothing, where the final response has begun, the connection is closing, or the client does not read."""
        cycle = self._cycle
        if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.transport.is_closing():
            return False
        lines = b"".join(
            b"%b: %b\r\n" % (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        )
        cycle.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _REASONS[status], lines))
        return True


def find_interim_responder(scope: Scope) -> InterimResponder | None:
    """None where the server or the request's version of HTTP has no interim responses, and behind a proxy.

    nginx before 1.29 takes an interim response of its upstream for the final one: a client of HTTP/2 would get a 104 and nothing else.
    """
    if any(name in _PROXY_FIELDS for name, _ in scope.get("headers", ())):
        return None
    return scope.get("extensions", {}).get(INTERIM_RESPONSES)
