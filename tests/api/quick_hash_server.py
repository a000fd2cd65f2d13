"""`python -m tests.api.quick_hash_server serve`: mediavault with password hashes that take no time. A hundred real ones take as long as a hundred
other tests."""

from __future__ import annotations

from functools import partial

from app.api.authentication import passwords
from app.cli import main

if __name__ == "__main__":
    passwords.PasswordHasher = partial(passwords.PasswordHasher, time_cost=1, memory_cost=64)  # pyright: ignore[reportAttributeAccessIssue]
    main()
