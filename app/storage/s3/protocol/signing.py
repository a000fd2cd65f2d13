"""`SigningState`: the credentials and the clock offset that requests are signed with, renewed when the store refuses a signature.

Credentials are loaded again from their source (settings' files, profile file, role). The clock offset is corrected to the store's clock. Each
change begins a new generation; links that were signed in an earlier generation are not used again.
"""
# pyright: basic

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiobotocore.credentials import AioCredentials
from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth, S3SigV4QueryAuth
from botocore.credentials import ReadOnlyCredentials

from app.storage.s3.protocol.responses import parse_http_date

log = structlog.get_logger(__name__)

RELOAD_PAUSE_SECONDS = 5.0
"""Least pause between two loads of refused credentials: many requests fail at once, and go on failing while nothing has changed."""
LOAD_TIMEOUT_SECONDS = 10.0
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""Less than stores tolerate (15 minutes), and more than a request takes in the network."""

STALE_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Codes that concern the credentials, whatever the status: AWS answers 400 to an expired token, others 401 or 403."""
CLOCK_SKEW_CODES = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})

_CLOCK_OFFSET = "mediavault_clock_offset"
_CORRECTED_SIGNATURE = "mediavault-s3v4"

CredentialLoader = Callable[[], Awaitable[AioCredentials | None]]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error response: error code ("" or the status as text where it has no body), HTTP status, message, `Date`, and the region of the
    bucket. All as the store sent them."""

    code: str
    status: int
    date: str = ""
    message: str = ""
    region: str = ""


class SigningState:
    """One per client; the SDK gets its credentials here (see `CredentialProvider`)."""

    def __init__(self, load: CredentialLoader) -> None:
        self._load = load
        self._credentials: AioCredentials | None = None
        self._current: ReadOnlyCredentials | None = None
        self._lock = asyncio.Lock()
        self._loaded_at = float("-inf")
        self._clock_offset = timedelta(0)
        self.generation = 0

    async def load_credentials(self) -> None:
        """Raises the SDK's errors where a source of credentials is broken. Missing credentials raise at the first request."""
        self._credentials = await self._load()

    def secret_texts(self) -> tuple[str, ...]:
        """The current secrets, which must not appear in messages."""
        used = self._current
        return () if used is None else tuple(text for text in (used.access_key, used.secret_key, used.token) if text)

    async def renew(self, response: ErrorResponse, generation: int) -> bool:
        """Renews credentials or clock offset after a refusal. True where a request that was refused in
        `generation` would now be signed differently."""
        if self.generation == generation and response.status in (400, 401, 403):
            self._compare_clocks(response)
        if response.code in STALE_CREDENTIAL_CODES and self.generation == generation:
            async with self._lock:
                if self.generation == generation:
                    await self._reload()
        return self.generation != generation

    def correct_clock_of(self, client: Any) -> None:
        """Make this SDK client sign with the store's clock, once a difference is known."""
        client.meta.events.register_first("choose-signer.s3", self._choose_signer)

    def _choose_signer(self, context: dict[str, Any], **_: Any) -> str | None:
        if not self._clock_offset:
            return None
        context[_CLOCK_OFFSET] = self._clock_offset
        return _CORRECTED_SIGNATURE

    def _compare_clocks(self, response: ErrorResponse) -> None:
        """Corrects the clock offset by the `Date` of the response. The error code is not needed: links and HEADs are refused without it."""
        date = parse_http_date(response.date)
        if date is None:
            return
        offset = date - _now()
        if abs(offset - self._clock_offset) < MAX_CLOCK_SKEW:
            if not self._clock_offset or response.code not in CLOCK_SKEW_CODES:
                return
            offset = timedelta(0)  # the `Date` is not that of the clock that the store checks signatures with
        self._clock_offset = (
            timedelta(0) if abs(offset) < MAX_CLOCK_SKEW else timedelta(seconds=round(offset.total_seconds()))
        )
        self.generation += 1
        seconds = self._clock_offset.total_seconds()
        log.warning(
            "the clocks of this host and of the store differ: requests are signed with the store's time",
            seconds=seconds,
        )

    async def _reload(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._loaded_at < RELOAD_PAUSE_SECONDS:
            return
        self._loaded_at = now
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                loaded = await self._load()
                frozen = await _freeze(loaded)
        except Exception as error:  # noqa: BLE001 - a source of credentials, such as a program or a service, may fail in any way
            log.error("credentials for the store can not be loaded", reason=type(error).__name__)
            return
        if frozen is not None and frozen != self._current:
            self._credentials = loaded
            self.generation += 1
            log.info("credentials for the store were loaded anew")

    async def current_credentials(self) -> ReadOnlyCredentials | None:
        """The credentials to sign with. A role's credentials are renewed here before they expire."""
        if self._credentials is None:
            async with self._lock:
                await self._reload()
        self._current = await _freeze(self._credentials)
        return self._current


class SessionCredentials(AioCredentials):
    """Credentials for the SDK that always return the current ones."""

    def __init__(self, signing: SigningState) -> None:
        super().__init__("", "", method="mediavault")
        self._signing = signing

    async def get_frozen_credentials(self) -> ReadOnlyCredentials | None:
        return await self._signing.current_credentials()


class CredentialProvider:
    """The SDK session's component `credential_provider`."""

    def __init__(self, signing: SigningState) -> None:
        self._signing = signing

    async def load_credentials(self) -> AioCredentials:
        return SessionCredentials(self._signing)


class _ClockCorrection:
    def _modify_request_before_signing(self, request: Any) -> None:
        # The timestamp has just been taken from this host's clock, and has not been used yet.
        moment = _now() + request.context[_CLOCK_OFFSET]
        request.context["timestamp"] = moment.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


class ClockCorrectedAuth(_ClockCorrection, S3SigV4Auth):
    """Signs headers with the store's clock."""


class ClockCorrectedQueryAuth(_ClockCorrection, S3SigV4QueryAuth):
    """Signs query strings (links) with the store's clock."""


# The SDK finds signers by name only.
AUTH_TYPE_MAPS[_CORRECTED_SIGNATURE] = ClockCorrectedAuth
AUTH_TYPE_MAPS[f"{_CORRECTED_SIGNATURE}-query"] = ClockCorrectedQueryAuth


def _now() -> datetime:
    return datetime.now(UTC)


async def _freeze(credentials: AioCredentials | None) -> ReadOnlyCredentials | None:
    return None if credentials is None else await credentials.get_frozen_credentials()
