"""Ids of parametrized tests."""

from __future__ import annotations


def plain_id(value: object) -> str:
    """`value` without backslashes and with ASCII only: a second run of pytest in one process escapes an id again, and does not
    find a test by its name any more (mutmut counts that as a failure of the test)."""
    return str(value).encode("unicode_escape").decode("ascii").replace("\\", "/")
