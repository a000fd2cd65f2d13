"""The static files of the page, in memory: content, gzip encoding, ETags and the version that their URLs contain."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from app.api.web.module_joining import ModuleJoiner
from app.api.web.source_compaction import compact_style

INDEX = "index.html"
VERSION_PLACEHOLDER = b"{version}"
"""Stands for the version in the index, which is the only file that contains it: other files refer to each other by relative URLs."""

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".webmanifest": "application/manifest+json; charset=utf-8",
    ".webp": "image/webp",
}
_IGNORED_FOLDERS = frozenset({"__pycache__"})
_IGNORED_EXTENSIONS = (".py", ".pyc")
_SCRIPT = re.compile(r'src="/web/\{version\}/([^"]+\.js)"')
_BETWEEN_TAGS = re.compile(rb">\s+<")
_VERSION_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file's bytes as they are sent. `etag` is strong and differs between the encodings of a file (RFC 9110 section 8.8.3.3)."""

    body: bytes
    etag: str
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class StaticFile:
    """`gzipped` is None if gzip does not make the file smaller."""

    content_type: str
    plain: Encoding
    gzipped: Encoding | None

    @classmethod
    def create(cls, name: str, content: bytes) -> StaticFile:
        """Raises `ValueError` for a name whose extension has no content type here."""
        extension = name[name.rfind(".") :]
        if extension not in _CONTENT_TYPES:
            raise ValueError(f"{name}: no content type is known for this extension")
        digest = hashlib.sha256(content).hexdigest()[:32]
        packed = gzip.compress(content, 9, mtime=0)
        return cls(
            _CONTENT_TYPES[extension],
            Encoding(content, f'"{digest}"'),
            Encoding(packed, f'"{digest}-gzip"', "gzip") if len(packed) < len(content) else None,
        )

    def choose_encoding(self, accept_encoding: str) -> Encoding:
        """The encoding for a request with this `Accept-Encoding` (all fields joined by commas; empty: not sent)."""
        return self.gzipped if self.gzipped is not None and accepts_gzip(accept_encoding) else self.plain


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """`version` changes with the content of any file. `files` has the key `scripts/main.js` for `/web/{version}/scripts/main.js`; `index` is
    not among them."""

    version: str
    index: StaticFile
    files: dict[str, StaticFile]

    @classmethod
    def create(cls, sources: Mapping[str, bytes]) -> StaticFiles:
        """Takes 50 ms. Raises `ValueError` if a file is of an unknown type, or if modules cannot be joined."""
        contents = dict(_list_sent(sources))
        digest = hashlib.sha256()
        for name, content in sorted(contents.items()):
            digest.update(b"%d %b %d " % (len(name.encode()), name.encode(), len(content)) + content)
        version = digest.hexdigest()[:_VERSION_CHARACTERS]
        index = _BETWEEN_TAGS.sub(b"><", contents.pop(INDEX)).replace(VERSION_PLACEHOLDER, version.encode())
        files = {name: StaticFile.create(name, content) for name, content in contents.items()}
        return cls(version, StaticFile.create(INDEX, index), files)


def read_files(root: Traversable) -> dict[str, bytes]:
    """The files below `root`, by their paths."""
    return dict(_read_files(root, ""))


def _list_sent(sources: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """What is sent of the files: style sheets without what only readers of the source need, and each script that the index or a worker starts
    as one file with all that it imports."""
    scripts = ModuleJoiner({name: text.decode() for name, text in sources.items() if name.endswith(".js")})
    for name, content in sources.items():
        if name.endswith(".css"):
            yield name, compact_style(content.decode()).encode()
        elif not name.endswith(".js"):
            yield name, content
    for entry in _SCRIPT.findall(sources[INDEX].decode()):
        for name in (entry, *scripts.list_workers(entry)):
            yield name, scripts.join(name).encode()


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is acceptable (RFC 9110 section 12.5.3). A field without gzip and `*` accepts no encoding."""
    weights: dict[str, bool] = {}
    for part in accept_encoding.split(","):
        coding, *parameters = (text.strip().lower() for text in part.split(";"))
        weights[coding] = not any(_is_zero_weight(parameter) for parameter in parameters)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0").rstrip(".") in ("", "0")


def _read_files(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in _sort(folder.iterdir()):
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            if entry.name not in _IGNORED_FOLDERS:
                yield from _read_files(entry, f"{name}/")
        elif not entry.name.endswith(_IGNORED_EXTENSIONS):
            yield name, entry.read_bytes()


def _sort(entries: Iterable[Traversable]) -> list[Traversable]:
    return sorted(entries, key=lambda entry: entry.name)
