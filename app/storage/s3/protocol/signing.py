"""What requests are signed with: credentials and a clock. Both are mended when the store refuses a signature for their sake.

Credentials are loaded anew from where they came (settings' files, profile file, role); the clock becomes the store's. Each mending
begins a new generation, and what was signed in an earlier one is not used again.
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
"""Between two loads of credentials that the store refuses: many calls fail at once, and go on failing where nothing has changed."""
LOAD_TIMEOUT_SECONDS = 10.0
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""Less than any store tolerates (15 minutes), and more than any network takes."""

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
"""Refusals of what a request was signed with, whatever the status: AWS says 400 to an expired token, others 401 or 403."""
CLOCK_SKEW_CODES = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})

_CLOCK_OFFSET = "mediavault_clock_offset"
_CORRECTED_SIGNATURE = "mediavault-s3v4"

CredentialLoader = Callable[[], Awaitable[AioCredentials | None]]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The store's answer: its error code ("" or the status as text where it has no body), HTTP status, message, `Date`, and the region
    that it says the bucket is in. All as it sent them."""

    code: str
    status: int
    date: str = ""
    message: str = ""
    region: str = ""


class SigningState:
    """One per client; the SDK takes it for its credentials (see `provider`)."""

    def __init__(self, load: CredentialLoader) -> None:
        self._load = load
        self._credentials: AioCredentials | None = None
        self._current: ReadOnlyCredentials | None = None
        self._lock = asyncio.Lock()
        self._loaded_at = float("-inf")
        self._clock_offset = timedelta(0)
        self.generation = 0

    async def load_credentials(self) -> None:
        """Raises what the SDK raises where a source of credentials is broken; that there is none shows at the first call."""
        self._credentials = await self._load()

    def secret_texts(self) -> tuple[str, ...]:
        """What must not be told to anybody."""
        used = self._current
        return () if used is None else tuple(text for text in (used.access_key, used.secret_key, used.token) if text)

    async def renew(self, response: ErrorResponse, generation: int) -> bool:
        """True where a request that was signed in `generation`, and refused so, would now be signed otherwise."""
        if self.generation == generation and response.status in (400, 401, 403):
            self._compare_clocks(response)
        if response.code in STALE_CREDENTIAL_CODES and self.generation == generation:
            async with self._lock:
                if self.generation == generation:
                    await self._reload()
        return self.generation != generation

    def correct_clock_of(self, client: Any) -> None:
        """Let this client sign with the store's clock, once that is known to differ."""
        client.meta.events.register_first("choose-signer.s3", self._choose_signer)

    def _choose_signer(self, context: dict[str, Any], **_: Any) -> str | None:
        if not self._clock_offset:
            return None
        context[_CLOCK_OFFSET] = self._clock_offset
        return _CORRECTED_SIGNATURE

    def _compare_clocks(self, response: ErrorResponse) -> None:
        """Links and HEADs are refused without the true reason: whatever it is, the `Date` of the answer tells."""
        date = parse_http_date(response.date)
        if date is None:
            return
        offset = date - _now()
        if abs(offset - self._clock_offset) < MAX_CLOCK_SKEW:
            if not self._clock_offset or response.code not in CLOCK_SKEW_CODES:
                return
            offset = timedelta(0)  # the `Date` is not of the clock that the store goes by
        self._clock_offset = (
            timedelta(0) if abs(offset) < MAX_CLOCK_SKEW else timedelta(seconds=round(offset.total_seconds()))
        )
        self.generation += 1
        seconds = self._clock_offset.total_seconds()
        log.warning("requests are signed with the store's clock, from which this host's differs", seconds=seconds)

    async def _reload(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._loaded_at < RELOAD_PAUSE_SECONDS:
            return
        self._loaded_at = now
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                loaded = await self._load()
                found = await _freeze(loaded)
        except Exception as error:  # noqa: BLE001 - a source of credentials, such as a program or a service, may fail in any way
            log.error("credentials for the store can not be loaded", reason=type(error).__name__)
            return
        if found is not None and found != self._current:
            self._credentials = loaded
            self.generation += 1
            log.info("credentials for the store were loaded anew")

    async def current_credentials(self) -> ReadOnlyCredentials | None:
        """What a request is signed with now. A role's credentials are renewed here before they expire."""
        if self._credentials is None:
            async with self._lock:
                await self._reload()
        self._current = await _freeze(self._credentials)
        return self._current


class SessionCredentials(AioCredentials):
    """Stands in the SDK for the credentials of the moment."""

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
        # The timestamp has just been taken from this host's clock, and nothing has been made from it.
        moment = _now() + request.context[_CLOCK_OFFSET]
        request.context["timestamp"] = moment.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


class ClockCorrectedAuth(_ClockCorrection, S3SigV4Auth):
    """Signs headers with the store's clock."""


class ClockCorrectedQueryAuth(_ClockCorrection, S3SigV4QueryAuth):
    """Signs links with the store's clock."""


# The SDK finds signers by name only.
AUTH_TYPE_MAPS[_CORRECTED_SIGNATURE] = ClockCorrectedAuth
AUTH_TYPE_MAPS[f"{_CORRECTED_SIGNATURE}-query"] = ClockCorrectedQueryAuth


def _now() -> datetime:
    return datetime.now(UTC)


async def _freeze(credentials: AioCredentials | None) -> ReadOnlyCredentials | None:
    return None if credentials is None else await credentials.get_frozen_credentials()
