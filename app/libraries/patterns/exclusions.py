"""Exclusion rules of a library: decides from glob patterns, as Immich applies them, which folders and files it leaves out. No I/O.

Patterns are matched with absolute paths. A pattern that ends with `/**` excludes folders with everything in them; one whose last segment has no
wildcard excludes folders and files of that name; all others exclude files only. Case and Unicode normalization (NFC, NFD) make no difference.
Hidden files and folders (`.name`) are always excluded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from app.libraries.patterns.globs import GLOBSTAR, STAR, GlobPattern, InvalidPattern, expand_pattern
from app.unicode_folding import normalize_nfc

DEFAULT_EXCLUSIONS = (
    "**/@eaDir/**",
    "**/._*",
    "**/#recycle/**",
    "**/#snapshot/**",
    "**/.stversions/**",
    "**/.stfolder/**",
)
"""Immich's defaults: files and folders that NAS systems, macOS and Syncthing create beside the user's files."""

_Matcher = partial[re.Match[str] | None]


class ExclusionRules:
    """A set of patterns, compiled into one regular expression per kind of match. Most patterns need only the last segment of a path."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Invalid patterns, which older versions accepted, exclude nothing and are in `invalid_patterns`, with the reason."""
        self.invalid_patterns: dict[str, str] = {}
        trees, named, files = _RegexLists(), _RegexLists(), _RegexLists()
        for pattern in patterns:
            try:
                globs = expand_pattern(normalize_nfc(pattern))
            except InvalidPattern as error:
                self.invalid_patterns[pattern] = str(error)
                continue
            for glob in globs:
                (trees if glob.is_tree else named if glob.has_plain_name else files).add(glob)
        self._tree_name, self._tree_path = (
            _compile_alternatives(trees.folders),
            _compile_alternatives(trees.folder_paths),
        )
        self._folder_name = _compile_alternatives(trees.folders + named.names)
        self._folder_path = _compile_alternatives(trees.folder_paths + named.paths)
        self._file_name = _compile_alternatives(trees.names + named.names + files.names)
        self._file_path = _compile_alternatives(trees.paths + named.paths + files.paths)

    def excludes_folder(self, folder: str, name: str) -> bool:
        """True if nothing below `folder`/`name` belongs to the library."""
        folder, name = normalize_nfc(folder), normalize_nfc(name)
        if name[0] == "." or (self._folder_name is not None and self._folder_name(name)):
            return True
        return bool(self._folder_path is not None and self._folder_path(f"{folder}/{name}"))

    def excludes_file(self, folder: str, name: str) -> bool:
        folder, name = normalize_nfc(folder), normalize_nfc(name)
        if name[0] == "." or (self._file_name is not None and self._file_name(name)):
            return True
        return bool(self._file_path is not None and self._file_path(f"{folder}/{name}"))

    def excludes_root(self, root: str) -> bool:
        """True if nothing below the import path `root` belongs to the library. Hidden folders above it do not count."""
        root = normalize_nfc(root)
        if self._tree_name is not None and any(map(self._tree_name, root.split("/"))):
            return True
        return bool(self._tree_path is not None and self._tree_path(root))


class _RegexLists:
    """Regular expressions for names of folders and of files, and for their whole paths."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.folder_paths: list[str] = []
        self.names: list[str] = []
        self.paths: list[str] = []

    def add(self, glob: GlobPattern) -> None:
        match glob.segments:
            case [[first], name] if first == GLOBSTAR != name[0]:
                self.names.append(_build_segment_regex(name))
            case [[first], name, [last]] if first == last == GLOBSTAR != name[0]:
                self.folders.append(_build_segment_regex(name))
                if not glob.requires_child:
                    self.names.append(_build_segment_regex(name))
            case _:
                self.paths.append(build_path_regex(glob.segments, include_top_folder=not glob.requires_child))
                if glob.is_tree:
                    self.folder_paths.append(build_path_regex(glob.segments, include_top_folder=True))


def build_path_regex(segments: Sequence[Sequence[str]], *, include_top_folder: bool) -> str:
    """The regular expression of a pattern, for `fullmatch` with an absolute path. `include_top_folder`: a path that ends where the last `/**`
    begins matches, too.

    Matching time is bounded by the product of the lengths of pattern and path. The text between two wildcards has a fixed length, so that its
    first occurrence is as good as any later one; atomic groups keep the search from being repeated."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment[0] == GLOBSTAR:
            groups.append([])
        else:
            groups[-1].append(f"/{_build_segment_regex(segment)}(?![^/])")
    first, *middle = ["".join(group) for group in groups]
    if not middle:
        return first
    last = middle.pop()
    inner = "".join(f"(?>(?:/[^/]*+)*?{group})" for group in middle if group)
    if last:
        return f"{first}{inner}(?:/[^/]*+)*?{last}"
    return f"{first}{inner}(?:/.*)?" if include_top_folder else f"{first}{inner}/.*"


def check_pattern(pattern: str) -> None:
    """Raises `InvalidPattern`."""
    expand_pattern(normalize_nfc(pattern))


def _build_segment_regex(tokens: Sequence[str]) -> str:
    pieces = [""]
    for token in tokens:
        if token == STAR:
            pieces.append("")
        else:
            pieces[-1] += token
    first, *rest = pieces
    if not rest:
        return first
    last = rest.pop()
    middle = "".join(f"(?>[^/]*?{piece})" for piece in rest)
    return f"{first}{middle}(?>[^/]*{last}(?![^/]))" if last else f"{first}{middle}[^/]*+"


def _compile_alternatives(patterns: list[str]) -> _Matcher | None:
    if not patterns:
        return None
    joined = "|".join(f"(?:{pattern})" for pattern in dict.fromkeys(patterns))
    return partial(re.compile(joined, re.DOTALL | re.IGNORECASE).fullmatch)
