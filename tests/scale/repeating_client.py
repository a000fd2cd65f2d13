"""Sends requests, records what they come to, and repeats what was refused or broken off."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.scale.request_log import Outcome, RequestLog

REFUSALS = frozenset({429, 502, 503, 504})
PATIENCE_SECONDS = 10.0
"""How long a client waits for the next bytes of an answer."""
ACTION_SECONDS = 90.0
"""In which an action succeeds, with all its repetitions."""
LONGEST_PAUSE_SECONDS = 0.3
"""Before a client tries again."""


@dataclass(frozen=True, slots=True)
class Received:
    """An answer that is no refusal. `whole` is False if the connection ended within the body."""

    status: int
    headers: httpx.Headers
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)


class RepeatingClient:
    """One client, for one thread."""

    def __init__(self, url: str, headers: dict[str, str], log: RequestLog, dice: random.Random) -> None:
        self.log = log
        self._dice = dice
        self._client = httpx.Client(
            base_url=url,
            headers={**headers, "accept-encoding": "identity"},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            verify=False,
        )

    def close(self) -> None:
        self._client.close()

    def send(
        self, kind: str, method: str, path: str, *, conflicts: frozenset[int] = frozenset(), **options: Any
    ) -> Received | None:
        """None if there was no answer, or one that says to try again."""
        began = time.monotonic()
        answer: httpx.Response | None = None
        body = bytearray()
        whole = False
        try:
            with self._client.stream(method, path, **options) as answer:
                for piece in answer.iter_raw():
                    body += piece
            whole = True
        except httpx.TransportError:
            pass
        seconds = time.monotonic() - began
        if answer is None:
            self.log.record(kind, Outcome.UNANSWERED, seconds)
            return None
        if answer.status_code in REFUSALS | conflicts:
            outcome = Outcome.CONFLICT if answer.status_code in conflicts else Outcome.REFUSED
            self.log.record(kind, outcome, seconds, answer.status_code)
            return None
        self.log.record(kind, Outcome.WHOLE if whole else Outcome.SHORT, seconds)
        return Received(answer.status_code, answer.headers, bytes(body), whole)

    def repeat(self, what: str, attempt: Callable[[], bool]) -> None:
        """Repeat the attempt until it succeeds."""
        end = time.monotonic() + ACTION_SECONDS
        while not attempt():
            assert time.monotonic() < end, f"not within {ACTION_SECONDS:g} s: {what}"
            time.sleep(self._dice.uniform(0, LONGEST_PAUSE_SECONDS))
