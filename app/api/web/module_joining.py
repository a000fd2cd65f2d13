"""Joins the page's modules into one: a browser that followed their imports would wait for the network once for each level of them.

No parser: it relies on import and export declarations that begin a line, on exports that are declarations, on imports without other names and
without circles, and on exported names that no other module and no browser uses. The tests compare the syntax trees of all sources with what is sent.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping

from app.api.web.source_compaction import compact_script

_IMPORT = re.compile(r'^import (?:\{\s*(?:\w+,\s+)*\w+,?\s*\} from )?"(?P<path>[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (?P<name>\w+))", re.MULTILINE)
_OTHER_DECLARATION = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_WORKER = re.compile(r'new URL\("(?P<path>[^"]+)", import\.meta\.url\)')


class ModuleJoiner:
    """`sources`: the modules by their paths."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def join(self, entry: str) -> str:
        """One compact module that does what `entry` does with all that it imports.

        Each module becomes a function that is called once, in the order in which a browser would evaluate the modules. What it exports is
        declared outside, where the others find it. Raises `ValueError` for an import that is not found or leads back to where it stands,
        for a name that two modules export, and for other forms of import and export.
        """
        order = self._sort(entry)
        names = Counter(name for path in order for name in self._list_exports(path))
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{entry}: exported twice: {', '.join(repeated)}")
        return "".join(compact_script(self._wrap(path, entry)) for path in order)

    def list_workers(self, entry: str) -> list[str]:
        """The scripts that run in workers of `entry`."""
        return sorted({worker for path in self._sort(entry) for worker in self._find(path, _WORKER)})

    def _find(self, path: str, pattern: re.Pattern[str]) -> list[str]:
        return [_resolve(path, found["path"]) for found in pattern.finditer(self._sources[path])]

    def _list_exports(self, path: str) -> list[str]:
        return [found["name"] for found in _EXPORT.finditer(self._sources[path])]

    def _sort(self, entry: str) -> list[str]:
        """Modules before those that import them."""
        done: dict[str, None] = {}
        opened: list[str] = []

        def visit(path: str) -> None:
            if path in done:
                return
            if path not in self._sources or path in opened:
                raise ValueError(
                    f"{' imports '.join((*opened, path))}: {'a circle' if path in opened else 'not found'}"
                )
            opened.append(path)
            for imported in self._find(path, _IMPORT):
                visit(imported)
            opened.pop()
            done[path] = None

        visit(entry)
        return list(done)

    def _wrap(self, path: str, entry: str) -> str:
        body = _EXPORT.sub("", _IMPORT.sub("", self._sources[path]))
        if other := _OTHER_DECLARATION.search(body):
            raise ValueError(f"{path}: {other[0]}")
        body = _WORKER.sub(lambda found: _address(_resolve(path, found["path"]), entry), body)
        names = ", ".join(self._list_exports(path))
        if not names:
            return f"(() => {{\n{body}\n}})();"
        return f"const {{ {names} }} = (() => {{\n{body}\nreturn {{ {names} }};\n}})();"


def _address(worker: str, entry: str) -> str:
    return f'new URL("./{posixpath.relpath(worker, posixpath.dirname(entry))}", import.meta.url)'


def _resolve(path: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), relative))
