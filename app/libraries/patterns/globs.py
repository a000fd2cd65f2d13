"""Parses glob patterns. A pattern with alternatives (`{a,b}`, `@(a|b)`) is expanded into patterns without them. Does not match paths.

The syntax is the part of fast-glob's, which Immich uses, that can be matched in linear time: `*` and `?` within a segment, `**` across
segments, `[…]`, `{a,b}`, `@(a|b)`, and a backslash to escape a character. All other syntax of fast-glob is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_PATTERN_CHARACTERS = 500
MAX_CHOICES = 64
MAX_DEPTH = 10
MAX_TOKENS = 2000
"""In total over all patterns that one pattern is expanded into."""

STAR, ANY, GLOBSTAR = "*", "[^/]", "**"
"""Wildcard tokens. Any other token is the regular expression of a single character."""
_SLASH, _NOTHING = "/", "(?:)"
_UNESCAPED = frozenset('()|"')
_SPECIAL_CHARACTERS = re.compile(r"[-*+?.^${}(|)\[\]]")
Tokens = tuple[str, ...]


class InvalidPattern(ValueError):
    """The pattern is malformed or not supported; the text says why, as the end of a sentence that begins with the pattern."""


@dataclass(frozen=True, slots=True)
class GlobPattern:
    """A pattern without alternatives: segments, each a list of tokens. `is_tree`: it ends with `/**`. `has_plain_name`: its last segment has no
    wildcard. `requires_child`: it is a tree that does not match a file with the name of its top folder."""

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
    """The patterns without alternatives that `pattern` stands for. Raises `InvalidPattern`."""
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
        """Parses up to the bracket `closing` ("": the end of the pattern). Returns the token sequences that it stands for, and the number of
        alternatives that were written."""
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
        # The brackets also match literally: a folder may be named "[2020]".
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
    deduplicated = [
        segment
        for segment, former in zip(segments, [[], *segments], strict=False)
        if segment != [GLOBSTAR] or former != segment
    ]
    return GlobPattern(
        _anchor_at_root([segment for segment in deduplicated if segment], with_slash=tokens[0] == _SLASH)
    )


def _anchor_at_root(segments: list[list[str]], *, with_slash: bool) -> list[list[str]]:
    """Adapts the beginning of a pattern to absolute paths, as fast-glob matches them. After a leading `/**/` the match is in a folder, never
    directly below `/`. In `**/*/…` the star also matches the empty text before the first slash."""
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
            # Alternatives side by side can put several stars in a row.
            segment += [token] if token != STAR or segment[-1:] != [STAR] else []
            continue
        if GLOBSTAR in segment and len(segment) > 1:
            raise InvalidPattern("has '**' beside other characters: write '**/*'")
        yield segment
        segment = []


def _escape_literal(character: str) -> str:
    return _SLASH if character == _SLASH else re.escape(character)


def _group_as_wildcard(token: str) -> str:
    """Wraps a literal in a group, so that `has_plain_name` takes it for a wildcard: fast-glob does so with escaped and bracketed characters."""
    return token if token in (_SLASH, STAR, ANY, GLOBSTAR) else f"(?:{token})"


def _escape_set_operators(inner: str) -> str:
    return inner.replace("&", r"\&").replace("|", r"\|").replace("~", r"\~")
