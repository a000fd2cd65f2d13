"""Reads glob patterns: into the plain ones that a pattern with choices stands for, each a list of segments of tokens.

The syntax is that of fast-glob, which Immich uses, as far as it can be matched in linear time: `*` and `?` within a segment, `**` across them,
`[…]`, `{a,b}`, `@(a|b)`, and a backslash before what is to stand for itself. All else that has a meaning there is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_PATTERN_CHARACTERS = 500
MAX_CHOICES = 64
MAX_DEPTH = 10
MAX_TOKENS = 2000
"""In all patterns together that one pattern with choices stands for."""

STAR, ANY, GLOBSTAR = "*", "[^/]", "**"
"""Tokens; any other one is the regular expression of a single character."""
_SLASH, _NOTHING = "/", "(?:)"
_UNESCAPED = frozenset('()|"')
_SPECIAL_CHARACTERS = re.compile(r"[-*+?.^${}(|)\[\]]")
Tokens = tuple[str, ...]


class InvalidPattern(ValueError):
    """The text is no glob pattern; says why."""


@dataclass(frozen=True, slots=True)
class GlobPattern:
    """A pattern without choices. `is_tree`: it ends with `/**`. `has_plain_name`: its last segment has no wildcard. `requires_child`: a tree that a file with the
    name of its folder is not in, too."""

    segments: list[list[str]]

    @property
    def is_tree(self) -> bool:
        return self.segments[-1] == [GLOBSTAR]

    @property
    def has_plain_name(self) -> bool:
        return all(token not in (STAR, ANY, GLOBSTAR) and token[0] != "(" for token in self.segments[-1])

    @property
    def requires_child(self) -> bool:
        return len(self.segments) > 1 and self.segments[-2][-1] == STAR


def expand_pattern(pattern: str) -> list[GlobPattern]:
    """Raises `InvalidPattern`."""
    if not pattern:
        raise InvalidPattern("is empty")
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise InvalidPattern(f"is longer than {MAX_PATTERN_CHARACTERS} characters")
    if "\0" in pattern or "\n" in pattern:
        raise InvalidPattern("holds a control character")
    if pattern[0] == "!":
        raise InvalidPattern("begins with '!': patterns tell what is left out, never what is kept")
    alternatives, _ = _GlobParser(pattern).parse("")
    return [_build_glob(tokens) for tokens in alternatives if tokens]


class _GlobParser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._depth = 0

    def parse(self, closing: str) -> tuple[list[Tokens], int]:
        """Up to the closing bracket: what may stand there, and between how many one can choose."""
        separator = "," if closing == "}" else "|"
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidPattern("has too many choices within choices")
        done: list[Tokens] = []
        alternatives: list[Tokens] = [()]
        choices = 1
        while self._position < len(self._pattern):
            character = self._pattern[self._position]
            self._position += 1
            if character == closing:
                self._depth -= 1
                return done + alternatives, choices
            if closing and character == separator:
                done += alternatives
                alternatives = [()]
                choices += 1
            else:
                alternatives = _concatenate(alternatives, self._parse_token(character))
        if closing:
            raise InvalidPattern(f"has an open {'brace' if closing == '}' else 'parenthesis'}")
        return alternatives, choices

    def _parse_token(self, character: str) -> list[Tokens]:
        following = self._pattern[self._position : self._position + 1]
        if following == "(" and character == "@":
            self._position += 1
            inside, _ = self.parse(")")
            if self._pattern[self._position : self._position + 1] in ("+", "?"):
                raise InvalidPattern("has '+' or '?' after ')'; a backslash before it makes it stand for itself")
            return [tuple(map(_group_as_wildcard, tokens)) or (_NOTHING,) for tokens in inside]
        if following == "(" and character in "!+*?":
            raise InvalidPattern(f"has {character}(…), which is not known here")
        if character == "{":
            inside, choices = self.parse("}")
            if choices == 1:
                raise InvalidPattern("has braces without a comma; '\\{' stands for the character")
            return inside
        if character == "[":
            return self._parse_character_class()
        if character == "\\":
            if not following:
                raise InvalidPattern("ends with a backslash")
            self._position += 1
            return [(_group_as_wildcard(_escape_literal(following)),)]
        return [self._parse_character(character)]

    def _parse_character(self, character: str) -> Tokens:
        if character in _UNESCAPED or character == "}":
            raise InvalidPattern(f"has {character!r}, which stands for itself only after a backslash")
        if character == "*":
            stars = 1
            while self._pattern[self._position : self._position + 1] == "*":
                self._position += 1
                stars += 1
            if stars > 2:
                raise InvalidPattern("has more than two '*' in a row")
            return (STAR,) if stars == 1 else (GLOBSTAR,)
        return (ANY,) if character == "?" else (_escape_literal(character),)

    def _parse_character_class(self) -> list[Tokens]:
        start = self._position
        end = self._pattern.find("]", start + 1 + (self._pattern[start : start + 1] in ("!", "^")))
        inner = self._pattern[start:end]
        if end < 0 or any(text in inner for text in ("[", "\\", "/", "--")):
            raise InvalidPattern("has '[' without a plain list of characters; '\\[' stands for the character")
        self._position = end + 1
        if self._pattern[end + 1 : end + 2] == "+":
            raise InvalidPattern("has '+' after ']'; '\\+' stands for the character")
        negated = inner[0] in "!^"
        regex = f"(?!/)[{'^' if negated else ''}{_escape_set_operators(inner[negated:])}]"
        try:
            re.compile(regex)
        except re.error:
            raise InvalidPattern(f"has [{inner}], which is no list of characters") from None
        if negated or _SPECIAL_CHARACTERS.search(inner):
            return [(regex,)]
        # A folder may well be called "[2020]".
        return [(regex,), tuple(_group_as_wildcard(_escape_literal(each)) for each in f"[{inner}]")]


def _concatenate(before: list[Tokens], after: Sequence[Tokens]) -> list[Tokens]:
    if len(before) * len(after) > MAX_CHOICES:
        raise InvalidPattern("has too many choices")
    joined = [former + latter for former in before for latter in after]
    if sum(map(len, joined)) > MAX_TOKENS:
        raise InvalidPattern("has too many choices")
    return joined


def _build_glob(tokens: Tokens) -> GlobPattern:
    segments = list(_split_segments(tokens))
    if tokens[0] == _SLASH:
        segments = segments[1:]
    elif segments[0] != [GLOBSTAR]:
        raise InvalidPattern("fits no path: begin it with '**/', or with '/' for an absolute path")
    if not segments or not segments[-1]:
        raise InvalidPattern("ends with '/': a folder's name goes without, or with '/**'")
    if [r"\."] in segments or [r"\.", r"\."] in segments:
        raise InvalidPattern("has a '.' or '..' segment")
    apart = [
        segment
        for segment, former in zip(segments, [[], *segments], strict=False)
        if segment != [GLOBSTAR] or former != segment
    ]
    return GlobPattern(_from_the_top([segment for segment in apart if segment], with_slash=tokens[0] == _SLASH))


def _from_the_top(segments: list[list[str]], *, with_slash: bool) -> list[list[str]]:
    """As fast-glob reads the beginning of a pattern, for absolute paths: after `/**/` something stands in a folder, never at the top; in
    `**/*/…` the star also fits the nothing before the first slash."""
    if len(segments) > 1 and segments[0] == [GLOBSTAR]:
        if with_slash:
            return [[STAR], *segments]
        if segments[1] == [STAR] and segments[2:] not in ([], [[GLOBSTAR]]):
            return [segments[0], *segments[2:]]
    return segments


def _split_segments(tokens: Tokens) -> Iterator[list[str]]:
    segment: list[str] = []
    for token in (*tokens, _SLASH):
        if token != _SLASH:
            # Several stars in a row come of choices.
            segment += [token] if token != STAR or segment[-1:] != [STAR] else []
            continue
        if GLOBSTAR in segment and len(segment) > 1:
            raise InvalidPattern("has '**' beside other characters: write '**/*'")
        yield segment
        segment = []


def _escape_literal(character: str) -> str:
    return _SLASH if character == _SLASH else re.escape(character)


def _group_as_wildcard(token: str) -> str:
    """As a wildcard, which it is for fast-glob: what was written with a backslash or in brackets makes no plain name."""
    return token if token in (_SLASH, STAR, ANY, GLOBSTAR) else f"(?:{token})"


def _escape_set_operators(inner: str) -> str:
    return inner.replace("&", r"\&").replace("|", r"\|").replace("~", r"\~")
