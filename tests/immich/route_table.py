"""The table of routes in `docs/immich.md`, made from the code. `python -m tests.immich.route_table` writes it."""

from __future__ import annotations

from pathlib import Path

from fastapi.routing import APIRoute

from app.api.openapi_files import describe_file_paths
from app.api.routes import list_api_routers
from app.api.routes.browsing import absent_features

DOCUMENT = Path(__file__).parents[2] / "docs" / "immich.md"
BEGIN, END = "<!-- routes: begin -->\n", "<!-- routes: end -->\n"


def build_table() -> str:
    """Paths below `/api`, with the methods that are served, and those of features that stay with Immich."""
    served: dict[str, set[str]] = {}
    absent: dict[str, set[str]] = {}
    for router in list_api_routers():
        target = absent if router is absent_features.router else served
        for route in router.routes:
            if isinstance(route, APIRoute) and (target is absent or route.include_in_schema):
                target.setdefault(route.path.removeprefix("/api"), set()).update(route.methods or ())
    for path, methods in describe_file_paths({}).items():
        served.setdefault(path.removeprefix("/api"), set()).update(method.upper() for method in methods)
    lines = ["| path below `/api` | served | of features that stay with Immich |", "|---|---|---|"]
    for path in sorted(served.keys() | absent.keys()):
        empty = absent.get(path, set()) - served.get(path, set())
        lines.append(f"| `{path}` | {_join(served.get(path, set()))} | {_describe_absent(path, empty)} |")
    return "\n".join(lines) + "\n"


def _join(methods: set[str]) -> str:
    return ", ".join(sorted(methods))


def _describe_absent(path: str, methods: set[str]) -> str:
    """What has no id is an empty list, what has one is not there, and writing is refused."""
    answers: list[str] = []
    if "GET" in methods:
        answers.append("GET: 404" if "{" in path else "GET: empty")
    if writing := methods - {"GET"}:
        answers.append(f"{_join(writing)}: refused (400)")
    return "; ".join(answers)


def replace_table(document: str) -> str:
    head, _, rest = document.partition(BEGIN)
    return head + BEGIN + build_table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(replace_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
