"""`mediavault serve --first-run`: the first user with an API key, and the address that signs this user in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.api.authentication.credentials import generate_secret, hash_secret
from app.api.authentication.permissions import Permission
from app.catalog.catalog import Catalog
from app.catalog.errors import EmailTaken
from app.catalog.schema.records import User

FIRST_USER = "admin@mediavault.local"
SIGN_IN_MINUTES = 10
"""How long a sign-in address works."""


async def create_api_key(catalog: Catalog, user: User, name: str, permissions: list[Permission]) -> str:
    """Make an API key and return it; the catalogue keeps a hash only."""
    secret = generate_secret()
    await catalog.api_keys.create(user.id, name, permissions, hash_secret(secret))
    return secret


async def create_first_user(catalog: Catalog) -> str | None:
    """Creates a user if there is none, and returns its API key."""
    if await catalog.users.count():
        return None
    try:
        user = await catalog.users.create(FIRST_USER, "Admin", is_admin=True)
    except EmailTaken:  # by another process that starts at the same time
        return None
    return await create_api_key(catalog, user, "first key", [Permission.ALL])


async def create_sign_in_token(catalog: Catalog) -> str | None:
    """A token that signs the only user in, once. None if this user has a password or a session, and if there are more users: then nobody
    needs it."""
    if await catalog.users.count() != 1:
        return None
    (user,) = await catalog.users.list()
    if user.password_hash is not None or await catalog.sessions.list(user.id):
        return None
    token = generate_secret()
    expires_at = datetime.now(UTC) + timedelta(minutes=SIGN_IN_MINUTES)
    await catalog.sign_in_tokens.create(user.id, hash_secret(token), expires_at)
    return token
