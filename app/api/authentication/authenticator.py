"""Identifies the caller of a request by API key or session token, checks permissions, and handles login and logout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from fastapi import Request
from starlette.types import Scope

from app.api.authentication.credentials import (
    SAFE_METHODS,
    TRUSTED_ORIGIN,
    CredentialKind,
    find_credential,
    generate_key_session_token,
    generate_secret,
    hash_secret,
    is_same_site,
)
from app.api.authentication.passwords import (
    InvalidPassword,
    LoginRateLimiter,
    PasswordService,
    TooManyLogins,
    WrongPassword,
)
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.request_context import record_user
from app.api.ttl_cache import TTLCache
from app.catalog.accounts.bcrypt_hashes import is_bcrypt_hash
from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound
from app.catalog.schema.records import ApiKey, Session, User
from app.config import Settings

MAX_CACHED_IDENTITIES = 10_000

FOREIGN_SESSION_PERMISSIONS = frozenset({Permission.ASSET_VIEW, Permission.ASSET_DOWNLOAD})
"""What a login at Immich is good for here: the requests that a proxy beside Immich sends here."""

_TOKEN_ATTEMPTS = "sign-in token"  # noqa: S105 - no password
_KEY_ATTEMPTS = "API key"
"""In place of an account's address, to count failed sign-ins per client address."""
_IDENTITY_KEY = "mediavault.identity_key"
"""Key of the scope under which `identify_from_cache` keeps the hash of the credential. A request that repeats an earlier head has its scope."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Identity:
    """The user who sent a request, and the permissions of the credential. One of `api_key` and `session` is set.
    `sees_locked`: false for logins and keys of Immich, which asks for a PIN before it shows a locked asset, and shows none to a key.
    Nobody is asked here: to these a locked asset is as one that does not exist."""

    user: User
    permissions: frozenset[str]
    credential_hash: bytes
    api_key: ApiKey | None = None
    session: Session | None = None
    sees_locked: bool = True

    @property
    def credential_id(self) -> UUID | None:
        credential = self.api_key or self.session
        return None if credential is None else credential.id

    @property
    def is_foreign(self) -> bool:
        """Whether this is a login at Immich."""
        return self.session is not None and self.session.is_foreign

    def has_permission(self, permission: Permission) -> bool:
        return Permission.ALL in self.permissions or permission in self.permissions

    def require_permission(self, permission: Permission) -> None:
        """Raises `ApiError` 403, which names the missing permission."""
        if not self.has_permission(permission):
            raise ApiError(403, f"Missing required permission: {permission}")


class Authenticator:
    """Looks up the identity of a credential, with a cache of `ttl_cache.TTL_SECONDS`."""

    def __init__(self, catalog: Catalog, settings: Settings, passwords: PasswordService) -> None:
        self._catalog = catalog
        self._settings = settings
        self._passwords = passwords
        self._login_limiter = LoginRateLimiter()
        self._identities: TTLCache[tuple[CredentialKind, bytes], Identity] = TTLCache(
            MAX_CACHED_IDENTITIES, stale_seconds=settings.stale_seconds
        )

    async def identify(self, scope: Scope) -> Identity:
        """Raises `ApiError`: 401 without a valid credential, 403 for a state-changing request that may be a cross-site forgery."""
        credential = find_credential(scope)
        if credential is None:
            raise ApiError(401, "Authentication required")
        if credential.is_ambient and scope["method"] not in SAFE_METHODS and not scope.get(TRUSTED_ORIGIN, False):
            self._refuse_cross_site(scope, default=False)
        digest = hash_secret(credential.secret)
        identity = await self._identities.get((credential.kind, digest), lambda: self._look_up(credential.kind, digest))
        if identity is None:
            message = "Invalid API key" if credential.kind is CredentialKind.API_KEY else "Invalid user token"
            raise ApiError(401, message)
        if _is_expired(identity):
            raise ApiError(401, "Invalid user token")
        record_user(scope, identity.user.id)
        return identity

    def identify_from_cache(self, scope: Scope) -> Identity | None:
        """The result of `identify` for a GET, if it is cached; None if only a catalogue query can tell."""
        key: tuple[CredentialKind, bytes] | None = scope.get(_IDENTITY_KEY)
        if key is None:
            credential = find_credential(scope)
            if credential is None:
                return None
            key = scope[_IDENTITY_KEY] = (credential.kind, hash_secret(credential.secret))
        identity = self._identities.peek(key)
        return None if identity is None or _is_expired(identity) else identity

    async def login(self, email: str, password: str, scope: Scope) -> tuple[User, str]:
        """Create a session; returns its user and token.

        Raises `ApiError`: 401 for a wrong email or password, 403 for a request from another site's page, 429 after too many failed
        logins, 503 while too many logins are being checked.
        """
        self._refuse_cross_site(scope, default=True)
        user = await self.verify_password(email, password, scope)
        if user is None:
            raise ApiError(401, "Incorrect email or password")
        return user, await self._create_session(user)

    async def sign_in_with_token(self, token: str, scope: Scope) -> tuple[User, str]:
        """Like `login`, by the token of a sign-in address, which is used up. The limits on failed logins apply."""
        self._refuse_cross_site(scope, default=True)
        redeem = self._catalog.sign_in_tokens.redeem
        user = await self._attempt(scope, _TOKEN_ATTEMPTS, lambda: redeem(hash_secret(token), datetime.now(UTC)))
        if user is None:
            raise ApiError(401, "This sign-in address was used already, has expired or is unknown")
        return user, await self._create_session(user)

    async def sign_in_with_key(self, api_key: str, scope: Scope) -> tuple[User, str]:
        """Like `login`, by an API key. The session has the key's permissions and ends with it. The limits on failed logins apply."""
        self._refuse_cross_site(scope, default=True)
        get_key = self._catalog.api_keys.get_by_hash
        found = await self._attempt(scope, _KEY_ATTEMPTS, lambda: get_key(hash_secret(api_key)))
        if found is None:
            raise ApiError(401, "Invalid API key")
        key, user = found
        try:
            return user, await self._create_session(user, key)
        except NotFound:  # the key was deleted meanwhile
            raise ApiError(401, "Invalid API key") from None

    async def logout(self, identity: Identity) -> None:
        if identity.session is not None:
            await self._catalog.sessions.delete_by_hash(identity.credential_hash)
        self.clear_cache()

    async def hash_password(self, password: str) -> str:
        """Raises `ApiError`: 400 if it is too short or too long, 503 while too many passwords are being checked."""
        try:
            with self._login_limiter.wait_for_turn():
                return await self._passwords.hash(password)
        except InvalidPassword as error:
            raise ApiError(400, f"password: {error}") from None
        except TooManyLogins as refusal:
            raise _build_refusal(refusal) from None

    async def verify_password(self, email: str, password: str, scope: Scope) -> User | None:
        """The user with this email, if the password is right. Raises `ApiError`: 429 after too many wrong ones, 503 while too many are being
        checked."""

        async def check() -> User | None:
            user = await self._catalog.users.get_by_email(email)
            bcrypt_cost = await self._catalog.users.find_bcrypt_cost()
            password_hash = user.password_hash if user else None
            is_right = await self._passwords.verify(password_hash, password, bcrypt_cost=bcrypt_cost)
            if user is None or not is_right:
                return None
            await self._replace_bcrypt_hash(user, password)
            return user

        return await self._attempt(scope, email.strip().casefold(), check)

    async def _replace_bcrypt_hash(self, user: User, password: str) -> None:
        """Replace the hash of a user who comes from Immich by Argon2id's, now that the password is known."""
        if user.password_hash is not None and is_bcrypt_hash(user.password_hash):
            replaced = await self._passwords.rehash(password)
            await self._catalog.users.replace_password_hash(user.id, user.password_hash, replaced)

    def clear_cache(self) -> None:
        """Call after a key or session was revoked or changed: the next request of every caller queries the catalogue."""
        self._identities.clear()

    def _refuse_cross_site(self, scope: Scope, *, default: bool) -> None:
        if not is_same_site(scope, self._settings.public_url, default=default):
            raise ApiError(403, "Refused: this request comes from another site")

    async def _attempt(self, scope: Scope, account: str, check: Callable[[], Awaitable[_T | None]]) -> _T | None:
        """The result of `check`; None counts as a failed login to `account`. Raises `ApiError`: 429, 503."""
        client = scope.get("client")
        try:
            async with self._login_limiter.attempt(client[0] if client else "", account):
                result = await check()
                if result is None:
                    raise WrongPassword
                return result
        except WrongPassword:
            return None
        except TooManyLogins as refusal:
            raise _build_refusal(refusal) from None

    async def _create_session(self, user: User, key: ApiKey | None = None) -> str:
        """Returns the session's token. `key`: the session has this key's permissions. Raises `NotFound` if user or key were deleted."""
        token = generate_key_session_token() if key else generate_secret()
        expires_at = datetime.now(UTC) + self._settings.session_lifetime
        await self._catalog.sessions.create(user.id, hash_secret(token), expires_at, key.id if key else None)
        return token

    async def _look_up(self, kind: CredentialKind, digest: bytes) -> Identity | None:
        if kind is not CredentialKind.API_KEY:
            session_row = await self._find_session(digest)
            if session_row is not None:
                session, user = session_row
                return await self._identify_session(session, user, digest)
        if kind is not CredentialKind.SESSION:
            key_row = await self._catalog.api_keys.get_by_hash(digest)
            if key_row is not None:
                key, user = key_row
                permissions = frozenset(key.permissions)
                return Identity(user, permissions, digest, api_key=key, sees_locked=not key.is_imported)
        return None

    async def _find_session(self, digest: bytes) -> tuple[Session, User] | None:
        moment = datetime.now(UTC)
        found = await self._catalog.sessions.get_by_hash(digest, moment)
        if found is None and self._settings.immich_sessions:
            found = await self._catalog.immich_sessions.get_by_hash(digest, moment)
        return found

    async def _identify_session(self, session: Session, user: User, digest: bytes) -> Identity | None:
        """With all permissions, those of a login at Immich, or those of the session's key; None if the key was deleted meanwhile."""
        if session.is_foreign:
            return Identity(user, FOREIGN_SESSION_PERMISSIONS, digest, session=session, sees_locked=False)
        if session.api_key_id is None:
            return Identity(user, frozenset({Permission.ALL}), digest, session=session)
        key = await self._catalog.api_keys.get(session.user_id, session.api_key_id)
        if key is None:
            return None
        permissions = frozenset(key.permissions)
        return Identity(user, permissions, digest, session=session, sees_locked=not key.is_imported)


def _build_refusal(refusal: TooManyLogins) -> ApiError:
    message = "Too many logins at once" if refusal.is_overloaded else "Too many failed logins"
    status = 503 if refusal.is_overloaded else 429
    return ApiError(status, f"{message}, try later", headers={"retry-after": str(refusal.retry_after)})


def _is_expired(identity: Identity) -> bool:
    return identity.session is not None and identity.session.expires_at <= datetime.now(UTC)


def require_permission(permission: Permission | None) -> Callable[[Request], Awaitable[Identity]]:
    """FastAPI dependency: the identity of a caller that has this permission (None: any valid credential)."""

    async def caller(request: Request) -> Identity:
        identity: Identity = await request.app.state.services.authenticator.identify(request.scope)
        if permission is not None:
            identity.require_permission(permission)
        return identity

    return caller


def require_administrator(permission: Permission) -> Callable[[Request], Awaitable[Identity]]:
    """FastAPI dependency: an administrator whose credential has the permission."""
    require_caller = require_permission(permission)

    async def administrator(request: Request) -> Identity:
        identity = await require_caller(request)
        if not identity.user.is_admin:
            raise ApiError(403, "Forbidden: for administrators only")
        return identity

    return administrator
