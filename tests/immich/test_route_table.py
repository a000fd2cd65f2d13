"""`docs/immich.md` lists the routes that there are."""

from __future__ import annotations

from tests.immich.route_table import DOCUMENT, build_table, replace_table


def test_the_table_is_that_of_the_code() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert replace_table(document) == document, "run `python -m tests.immich.route_table`"


def test_the_table_tells_what_is_served_from_what_stays_with_immich() -> None:
    lines = build_table().splitlines()
    assert "| `/assets/{id}/original` | GET, HEAD |  |" in lines
    assert "| `/albums` |  | GET: empty; DELETE, PATCH, POST, PUT: refused (400) |" in lines
    assert "| `/search/metadata` | POST |  |" in lines
