"""The SQL expression `contains_folded`, which finds a text regardless of case and normalization on both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, ColumnElement, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from app.catalog.schema.column_types import Text
from app.unicode_folding import fold_case

SQLITE_FUNCTION = "contains_folded"


def contains_folded(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Whether `text` contains `part`, in any case and normalization. In PostgreSQL the database's locale defines case."""
    return _ContainsFolded(text, literal(part, Text))


def sqlite_contains_folded(text: str | None, part: str) -> bool | None:
    """The implementation that SQLite calls, in the thread of the connection."""
    return None if text is None else fold_case(part) in fold_case(text)


class _ContainsFolded(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_ContainsFolded, "sqlite")
def _for_sqlite(element: _ContainsFolded, compiler: Any, **options: Any) -> str:
    return f"{SQLITE_FUNCTION}({compiler.process(element.clauses, **options)})"


@compiles(_ContainsFolded, "postgresql")
def _for_postgresql(element: _ContainsFolded, compiler: Any, **options: Any) -> str:
    text, part = (f"lower(normalize({compiler.process(clause, **options)}))" for clause in element.clauses)
    return f"strpos({text}, {part}) > 0"
