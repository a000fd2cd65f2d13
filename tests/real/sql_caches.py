"""Keeps compiled SQL between the engines of a process. SQLAlchemy keeps it for each engine: a service has one or two, the tests make thousands."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

STATEMENTS = 5000
_OPTIONS = ("server_version_info", "_json_serializer", "_json_deserializer", "_backslash_escapes", "paramstyle")
"""Attributes of a dialect on which compiled SQL may depend."""


def keep_compiled_statements() -> None:
    """From now on, engines of this process whose dialects have the same class and options share compiled statements."""
    caches: dict[type[Any], LRUCache[Any, Any]] = {}

    def get_cache(engine: Engine) -> LRUCache[Any, Any]:
        return caches.setdefault(type(engine.dialect), LRUCache(STATEMENTS))

    def ignore_own_cache(engine: Engine, cache: object) -> None:
        """An engine sets its own when it is made."""

    def is_equal(dialect: DefaultDialect, other: object) -> bool:
        """The cache's keys contain the dialect."""
        return type(dialect) is type(other) and all(
            getattr(dialect, name, None) == getattr(other, name, None) for name in _OPTIONS
        )

    changed: Any = Engine
    changed._compiled_cache = property(get_cache, ignore_own_cache)
    compared: Any = DefaultDialect
    compared.__eq__ = is_equal
    compared.__hash__ = lambda dialect: hash(type(dialect))
