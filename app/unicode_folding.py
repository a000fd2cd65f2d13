"""When two names are the same although their bytes differ: canonical equivalence and case, by Unicode. Pure; no I/O."""

from __future__ import annotations

import unicodedata


def normalize_nfc(text: str) -> str:
    """In normalization form C. macOS writes names decomposed (form D), most others do not."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fold_case(text: str) -> str:
    """Equal for texts that differ in case (full case folding: `ß` is `ss`) or in normalization only."""
    return text.lower() if text.isascii() else normalize_nfc(normalize_nfc(text).casefold())
