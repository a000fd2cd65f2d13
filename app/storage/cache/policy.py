"""`CachePolicy`: which objects are cached. Thumbnails and previews always are; everything else, which is large, as the settings say."""

from __future__ import annotations

from collections import OrderedDict

from app.config import CacheOriginals
from app.storage.key import Key

MAX_TOUCHED = 65_536
_SMALL_PREFIXES = ("thumbs/", "profile/")
"""Keys below which thumbnails, previews, full-size pictures and portraits lie."""


class CachePolicy:
    def __init__(self, originals: CacheOriginals) -> None:
        self._originals = originals
        self._touched: OrderedDict[int, None] = OrderedDict()

    def may_hold(self, key: Key) -> bool:
        """False for objects that are never cached."""
        return self._originals is not CacheOriginals.NEVER or key.value.startswith(_SMALL_PREFIXES)

    def admit(self, key: Key) -> bool:
        """Called for each read of an object that is not in the cache, all of it or in part: whether it shall be by now."""
        if self._originals is CacheOriginals.ALWAYS or key.value.startswith(_SMALL_PREFIXES):
            return True
        touched = hash(key.value)
        if touched in self._touched:
            self._touched.move_to_end(touched)
            return True
        self._touched[touched] = None
        if len(self._touched) > MAX_TOUCHED:
            self._touched.popitem(last=False)
        return False
