"""Tells usable bcrypt hashes, which users who come from an Immich installation have, from other texts. Hashes nothing."""

from __future__ import annotations

import re

MAX_BCRYPT_COST = 15
"""2 to this power rounds take two seconds, more would occupy a thread for minutes. Immich uses 10."""
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
"""Version, cost, 128 bits of salt, of which the last character has two, and 184 bits of the digest."""


def is_bcrypt_hash(password_hash: str) -> bool:
    """Whether a password can be compared with it."""
    return get_bcrypt_cost(password_hash) is not None


def get_bcrypt_cost(password_hash: str) -> int | None:
    """The binary logarithm of the rounds; None for what is no usable hash."""
    parts = _HASH.fullmatch(password_hash)
    return int(parts[1]) if parts is not None and int(parts[1]) <= MAX_BCRYPT_COST else None
