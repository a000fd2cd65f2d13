"""Normalization of names for comparison, by Unicode: canonical equivalence (NFC) and case folding. Pure functions."""

from __future__ import annotations

import unicodedata


def normalize_nfc(text: str) -> str:
    """Normalize to form C (NFC). macOS writes file names decomposed (form D), most other systems do not."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fold_case(text: str) -> str:
    """A key that is equal for texts which differ only in case (full case folding: `ß` is `ss`) or normalization."""
    return text.lower() if text.isascii() else normalize_nfc(normalize_nfc(text).casefold())
