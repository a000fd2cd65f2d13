"""Reads the credential from a request's headers, query or cookie, and detects cross-site request forgery (CSRF). No I/O."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from starlette.types import Scope

SESSION_COOKIE = "immich_access_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

TRUSTED_ORIGIN = "trusted_origin"
"""Key of the scope that is true for a request from a page of a configured origin, to a path that such pages may use."""

MAX_COOKIE_BYTES = 8 * 1024
"""Browsers keep cookies of 4 KiB each; a longer `Cookie` field is ignored."""

CREDENTIAL_PARAMETERS = frozenset({"apiKey", "sessionKey"})
"""Query parameters that carry a credential."""

_TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,128}")


class CredentialKind(StrEnum):
    SESSION = "session"
    API_KEY = "api key"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Credential:
    """`is_ambient`: a cookie. The browser sends it by itself, so another site's page may have caused the request."""

    secret: str
    kind: CredentialKind
    is_ambient: bool = False


_HEADERS = (
    (b"x-immich-user-token", CredentialKind.SESSION),
    (b"x-immich-session-token", CredentialKind.SESSION),
    (b"x-api-key", CredentialKind.API_KEY),
)


_KEY_SESSION_PREFIX = "key-"


def generate_secret() -> str:
    """256 random bits in hex: safe in URLs, in headers and as a command-line argument (which must not begin with `-`)."""
    return secrets.token_hex(32)


def generate_key_session_token() -> str:
    """The token of a session that was made from an API key, which `hash_secret` tells by its prefix."""
    return _KEY_SESSION_PREFIX + generate_secret()


def hash_secret(secret: str) -> bytes:
    """The SHA-256 of a key or token; the catalogue stores only this. SHA-256 suffices for 256 random bits; passwords get Argon2id.

    Tokens of sessions that were made from an API key are hashed twice: a process from before revision 0016, which would take such a session for
    one with all permissions, does not find it.
    """
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
    return hashlib.sha256(digest).digest() if secret.startswith(_KEY_SESSION_PREFIX) else digest


def find_credential(scope: Scope) -> Credential | None:
    """The request's credential: headers first, then the query, then the cookie."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    for name, kind in _HEADERS:
        if (value := headers.get(name)) is not None:
            return Credential(value.decode("latin-1").strip(), kind)
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Credential(token.strip(), CredentialKind.EITHER)
    query: bytes = scope.get("query_string", b"")
    if b"Key=" in query:
        values = dict(parse_qsl(query.decode("latin-1")))
        if session := values.get("sessionKey"):
            return Credential(session, CredentialKind.SESSION)
        if key := values.get("apiKey"):
            return Credential(key, CredentialKind.API_KEY)
    if token := _read_session_cookie(headers.get(b"cookie")):
        return Credential(token, CredentialKind.SESSION, is_ambient=True)
    return None


def is_same_site(scope: Scope, public_url: str | None, *, default: bool) -> bool:
    """Whether a state-changing request comes from a page of this service.

    `Sec-Fetch-Site` decides if the browser sends it; otherwise `Origin` must match `public_url`, or `Host` without one. `default` is the
    result if the client sends neither.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    if origin is None:
        return default
    try:
        theirs = urlsplit(origin.decode("latin-1"))
    except ValueError:
        return False
    if public_url is not None:
        ours = urlsplit(public_url)
        return (theirs.scheme, theirs.netloc.lower()) == (ours.scheme, ours.netloc.lower())
    return theirs.netloc.lower().encode("latin-1") == headers.get(b"host", b"").lower() != b""


def _read_session_cookie(header: bytes | None) -> str | None:
    """The first session cookie, if its value looks like a token. Not `http.cookies`: it takes quadratic time (CVE-2024-7592)."""
    if header is None or len(header) > MAX_COOKIE_BYTES:
        return None
    for pair in header.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == SESSION_COOKIE.encode():
            return value.decode("ascii") if _TOKEN.fullmatch(value) else None
    return None
