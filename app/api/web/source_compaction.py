"""Compacts the page's scripts and styles: a browser needs no comments, no layout and no long private names.

No parser: it relies on semicolons, on template literals that contain no others, and on regular expressions that follow an operator or a bracket.
The tests compare the syntax trees of all sources with those of what is sent.
"""

from __future__ import annotations

import re
import string

_CHANGED = re.compile(
    r"""
      (?P<text>     "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | (?<=[(,=:!&|?{};\[>\s]) / (?![/*\s]) (?:[^/\\\n]|\\.)+ /(?=[a-z]*[.,;)\s]) )
    | (?P<template> `(?:[^`\\]|\\.)*` )
    | (?<=[(,=:?\[{>&|]) \s? \( (?P<parameter> [A-Za-z_$][\w$]* ) \) (?=\s*=>)
    | (?P<gap>      (?: \s | /\*.*?\*/ | //[^\n]* )+ )
    | (?P<private>  \#\w+ )
    | (?P<constant> (?<![\w$.]) const (?=[\s{\[]) )
    | (?P<needless> ;(?=\s*\}) | ,(?=\s*[\])}]) )
    """,
    re.DOTALL | re.VERBOSE,
)
"""What is changed, and what may look like it: a text is a string or a regular expression."""
_PRIVATE_IN_TEMPLATE = re.compile(r"(?<=\.)#\w+")
_CONTINUES_AFTER = frozenset("{};,([=&|?:><*")
_CONTINUES_BEFORE = frozenset("})];,.?:=&|<>*")
"""A line break after or before one of these ends no statement."""
_WORD = frozenset(string.ascii_letters + string.digits + "_$#")
_SIGNS = frozenset("+-/")

_STYLE_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_STYLE_SEPARATOR = re.compile(r"\s*([{};,])\s*")


def compact_script(source: str) -> str:
    """The same module with fewer characters; its private names are replaced by shorter ones, and `const` by `let`, which differs in nothing
    but that a program which assigns to a constant fails."""
    names: dict[str, str] = {}

    def shorten(found: re.Match[str]) -> str:
        number, place = divmod(len(names), len(string.ascii_letters))
        return names.setdefault(found[0], f"#{string.ascii_letters[place]}{number or ''}")

    def change(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "gap":
                return _choose_separator(
                    found[0], source[found.start() - 1 : found.start()], source[found.end() : found.end() + 1]
                )
            case "private":
                return shorten(found)
            case "needless":
                return ""
            case "constant":
                return "let"
            case "parameter":
                return found["parameter"]
            case "template":
                return _PRIVATE_IN_TEMPLATE.sub(shorten, found[0])
            case _:
                return found[0]

    return _CHANGED.sub(change, source)


def compact_style(source: str) -> str:
    """The same style sheet with fewer characters."""
    text = _STYLE_SEPARATOR.sub(r"\1", _STYLE_COMMENT.sub("", source))
    return re.sub(r"\s+", " ", re.sub(r":\s+", ":", text)).replace(";}", "}").strip()


def _choose_separator(gap: str, before: str, after: str) -> str:
    """What stands in place of a gap between two characters: as little as keeps them apart."""
    if not before or not after:
        return ""
    if "\n" in gap and before not in _CONTINUES_AFTER and after not in _CONTINUES_BEFORE:
        return "\n"
    return " " if (before in _WORD and after in _WORD) or (before in _SIGNS and after in _SIGNS) else ""
