"""SQL expressions of months, which give the same texts on both databases."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType


class MonthFunction(FunctionElement[Any]):
    """An expression of one argument. `sqlite` and `postgresql` are its SQL. SQLite stores times as texts, such as `2024-05-01 12:00:00.000000`,
    so a month is the text `2024-05` there; in PostgreSQL it is the time at which it begins, in UTC."""

    type = NullType()
    inherit_cache = True
    sqlite: ClassVar[str]
    postgresql: ClassVar[str]


class Month(MonthFunction):
    """The month of a time."""

    inherit_cache = True
    sqlite = "substr({}, 1, 7)"
    postgresql = "date_trunc('month', {} AT TIME ZONE 'UTC')"


class MonthText(MonthFunction):
    """A month as `2024-05`."""

    type = String()
    inherit_cache = True
    sqlite = "{}"
    postgresql = "to_char({}, 'YYYY-MM')"


@compiles(MonthFunction, "sqlite")
def _for_sqlite(element: MonthFunction, compiler: Any, **options: Any) -> str:
    return f"({element.sqlite.format(compiler.process(element.clauses, **options))})"


@compiles(MonthFunction, "postgresql")
def _for_postgresql(element: MonthFunction, compiler: Any, **options: Any) -> str:
    return f"({element.postgresql.format(compiler.process(element.clauses, **options))})"
