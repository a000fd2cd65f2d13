"""Unusual but valid names are returned unchanged (after rclone's table of encodings)."""

from __future__ import annotations

import pytest

from app.storage.backend import StorageBackend
from app.storage.key import Key
from tests.storage.guarantees.content import fetch, keys_of, store

ODD_NAMES = {
    "space": "a b.jpg",
    "leading space": " a.jpg",
    "trailing space": "a ",
    "two spaces": "a  b",
    "leading dot": ".hidden",
    "marker": ".immich",
    "trailing dot": "a.",
    "three dots": "...",
    "hash": "a#b.jpg",
    "question mark": "a?b=c&d.jpg",
    "percent": "100%.jpg",
    "escaped slash": "a%2Fb.jpg",
    "escaped percent": "a%252F.jpg",
    "escaped space": "a%20b.jpg",
    "bad escape": "a%zz%.jpg",
    "plus": "a+b.jpg",
    "quotes": "a'b\"c`d.jpg",
    "brackets": "a[b](c){d}<e>.jpg",
    "punctuation": "!$&,:;=@^|~*.jpg",
    "leading dash": "-rf",
    "leading tilde": "~root",
    "XML": "<a>&amp;&lt;.jpg",
    "emoji": "family \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600.jpg",
    "NFC": "caf\u00e9.jpg",
    "NFD": "cafe\u0301.jpg",
    "right to left": "\u202egpj.exe",
    "Arabic": "\u0635\u0648\u0631\u0629.jpg",
    "Han": "\u7167\u7247\u3000.jpg",
    "no-break space": "a\u00a0b",
    "zero width": "a\u200bb\ufeff",
    "byte order mark": "\ufeffa.jpg",
    "beyond the BMP": "\U00020000.jpg",
    "reserved on Windows": "CON.jpg",
    "200 bytes": "x" * 196 + ".jpg",
    "200 bytes of two-byte letters": "\u00e9" * 100,
    "half of a temporary name": ".mediavault-a.jpg",
}


class NameGuarantees:
    @pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
    async def test_an_odd_name_round_trips(self, backend: StorageBackend, name: str) -> None:
        key, copy = f"upload/{name}", f"{name}/copy"
        await store(backend, key, name.encode())
        assert await fetch(backend, key) == name.encode()
        assert (await backend.head(Key(key))).key == key
        await backend.copy_object(Key(key), Key(copy))
        assert await fetch(backend, copy) == name.encode()
        assert sorted(await keys_of(backend)) == sorted([key, copy])
        assert await keys_of(backend, name) == [copy]
        assert await backend.delete_objects([Key(key), Key(copy)]) == {}
        assert await keys_of(backend) == []

    async def test_composed_and_decomposed_letters_are_two_names(self, backend: StorageBackend) -> None:
        await store(backend, "caf\u00e9", b"composed")
        await store(backend, "cafe\u0301", b"decomposed")
        assert await fetch(backend, "caf\u00e9") == b"composed"
        assert await fetch(backend, "cafe\u0301") == b"decomposed"

    async def test_an_escaped_name_is_not_the_name_it_stands_for(self, backend: StorageBackend) -> None:
        await store(backend, "a b/c", b"plain")
        for other in ("a%20b/c", "a+b/c", "a%20b%2Fc"):
            assert not await backend.exists(Key(other))

    async def test_a_deep_name_of_many_segments_round_trips(self, backend: StorageBackend) -> None:
        key = "/".join(f"{level:03}" for level in range(150))
        await store(backend, key, b"deep")
        assert await fetch(backend, key) == b"deep"
        assert await keys_of(backend, "000/001") == [key]
