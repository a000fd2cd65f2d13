"""Users: e-mail address, name, password hash and quota. Passwords are hashed by the caller."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update

from app.catalog.accounts.bcrypt_hashes import get_bcrypt_cost
from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, EmailTaken, InvalidEmail
from app.catalog.schema import tables
from app.catalog.schema.records import User

_user = tables.user
_BCRYPT_PREFIX = len("$2b$10$")

MAX_EMAIL_CHARACTERS = 254
"""RFC 5321 section 4.5.3.1.3: a path has at most 256 octets, of which two are its angle brackets."""


class UserChanges(TypedDict, total=False):
    """The fields of a user that may change; an absent key means unchanged."""

    email: str
    name: str
    is_admin: bool
    quota: int | None
    password_hash: str | None


class UserRepository:
    """E-mail addresses are stored and compared in lower case."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        email: str,
        name: str,
        *,
        is_admin: bool = False,
        quota: int | None = None,
        password_hash: str | None = None,
    ) -> User:
        """`quota` in bytes; None: unlimited. Raises `EmailTaken` and `InvalidEmail`."""
        moment = now()
        created = User(
            id=uuid4(),
            email=validate_email(email),
            name=name,
            is_admin=is_admin,
            quota=quota,
            used=0,
            password_hash=password_hash,
            created_at=moment,
            updated_at=moment,
        )
        values = {column.name: getattr(created, column.name) for column in _user.c}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_user).values(values))
        except ConstraintViolation:
            raise EmailTaken(created.email) from None
        return created

    async def get(self, user_id: UUID) -> User | None:
        return await self._get_one(_user.c.id == user_id)

    async def get_by_email(self, email: str) -> User | None:
        return await self._get_one(_user.c.email == _normalize_email(email))

    async def find_bcrypt_cost(self) -> int | None:
        """The highest cost of the bcrypt hashes that users have, if any has one."""
        beginning = func.substr(_user.c.password_hash, 1, _BCRYPT_PREFIX)
        some = select(func.min(_user.c.password_hash)).where(_user.c.password_hash.startswith("$2")).group_by(beginning)
        async with self._database.read() as connection:
            costs = [get_bcrypt_cost(each) for each in (await connection.execute(some)).scalars()]
        return max((cost for cost in costs if cost is not None), default=None)

    async def list(self) -> list[User]:
        """Oldest first."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(_user).order_by(_user.c.created_at, _user.c.id))
            return [User(**row) for row in rows.mappings()]

    async def count(self) -> int:
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(_user))).scalar_one()

    async def update(self, user_id: UUID, **changes: Unpack[UserChanges]) -> User | None:
        """Returns None for an unknown user. Raises `EmailTaken` and `InvalidEmail`."""
        values: dict[str, Any] = {**changes, "updated_at": now()}
        if "email" in changes:
            values["email"] = validate_email(changes["email"])
        statement = update(_user).where(_user.c.id == user_id).values(values).returning(_user)
        try:
            async with self._database.write() as connection:
                row = (await connection.execute(statement)).mappings().one_or_none()
        except ConstraintViolation:
            raise EmailTaken(values.get("email", "")) from None
        return None if row is None else User(**row)

    async def replace_password_hash(self, user_id: UUID, former: str, password_hash: str) -> None:
        """Replace the hash of the same password. Does nothing when the password has been changed meanwhile."""
        same = (_user.c.id == user_id) & (_user.c.password_hash == former)
        async with self._database.write() as connection:
            await connection.execute(update(_user).where(same).values(password_hash=password_hash))

    async def _get_one(self, condition: Any) -> User | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_user).where(condition))).mappings().one_or_none()
        return None if row is None else User(**row)


def _normalize_email(email: str) -> str:
    return email.strip().lower()


def validate_email(email: str) -> str:
    """The address as it is stored. Raises `InvalidEmail`."""
    address = _normalize_email(email)
    local, _, domain = address.rpartition("@")
    if not (local and domain and address.isprintable()) or " " in address or len(address) > MAX_EMAIL_CHARACTERS:
        raise InvalidEmail(email)
    return address
