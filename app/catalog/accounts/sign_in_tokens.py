"""Tokens of sign-in addresses: each signs its user in once. Only hashes are stored; the caller computes them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, insert, select

from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, NotFound
from app.catalog.schema import tables
from app.catalog.schema.records import User

_token = tables.sign_in_token
_user = tables.user


class SignInTokenRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: UUID, token_hash: bytes, expires_at: datetime) -> None:
        """Replaces the user's earlier token. Raises `NotFound` for an unknown user."""
        values = {"user_id": user_id, "token_hash": token_hash, "expires_at": expires_at, "created_at": now()}
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(_token).where(_token.c.user_id == user_id))
                await connection.execute(insert(_token).values(values))
        except ConstraintViolation:
            raise NotFound("user", [user_id]) from None

    async def redeem(self, token_hash: bytes, moment: datetime) -> User | None:
        """Delete the token and return its user; None if it is unknown, redeemed already, or expired at `moment`.

        Of several concurrent calls one returns the user.
        """
        valid = (_token.c.token_hash == token_hash) & (_token.c.expires_at > moment)
        async with self._database.write() as connection:
            redeemed = await connection.execute(delete(_token).where(valid).returning(_token.c.user_id))
            user_id = redeemed.scalar_one_or_none()
            if user_id is None:
                return None
            row = (await connection.execute(select(_user).where(_user.c.id == user_id))).mappings().one_or_none()
        return None if row is None else User(**row)

    async def delete_expired(self, moment: datetime) -> int:
        """Returns how many were deleted."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_token).where(_token.c.expires_at <= moment))).rowcount
