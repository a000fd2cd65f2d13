"""`ContentHash`: its digests are those of hashlib, and its states are the same for OpenSSL and the package that saves states."""

from __future__ import annotations

import hashlib
import random
import zlib
from itertools import pairwise

import pytest
from rehashes import PySha1  # pyright: ignore[reportAttributeAccessIssue]

from app.uploads.sessions import content_hash
from app.uploads.sessions.content_hash import ContentHash, HashState, finish_sha1
from app.uploads.sessions.openssl_sha1 import OpenSslSha1

SIZES = (0, 1, 55, 56, 63, 64, 65, 127, 128, 4096, 300_000)


@pytest.fixture(params=["openssl", "package"])
def hashed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two hashes."""
    if request.param == "openssl":
        assert content_hash.has_openssl()
    else:
        monkeypatch.setattr(content_hash, "has_openssl", lambda: False)
    return request.param


@pytest.mark.parametrize("error", [ImportError, OSError, AttributeError, RuntimeError])
def test_the_package_hashes_where_openssl_does_not(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(content_hash.OpenSslSha1, "update", refuse)
    assert not content_hash.has_openssl.__wrapped__()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("hashed_by")
def test_it_goes_on_from_any_saved_state(size: int, seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(size)
    ends = sorted({0, size, *(rng.randrange(size + 1) for _ in range(20))})

    state = HashState()
    for start, end in pairwise(ends):
        piece = memoryview(bytearray(data[start:end]) if rng.random() < 0.5 else data[start:end])
        part = ContentHash(state)
        part.update(piece[: len(piece) // 2])
        part.update(piece[len(piece) // 2 :])
        state = part.save()

    assert finish_sha1(state) == hashlib.sha1(data, usedforsecurity=False).digest()
    assert state.crc32 == zlib.crc32(data)


@pytest.mark.parametrize("size", SIZES)
def test_states_are_those_of_the_package(size: int) -> None:
    data = random.Random(size).randbytes(size)
    ours, theirs = OpenSslSha1(), PySha1()

    ours.update(data)
    theirs.update(data)

    assert ours.serialize() == theirs.serialize()
    assert OpenSslSha1.deserialize(theirs.serialize()).serialize() == theirs.serialize()


def test_lengths_over_four_gibibytes_of_bits_are_kept() -> None:
    state = PySha1().serialize()
    saved = state[:20] + (5 * 2**30 // 64).to_bytes(8, "little") + b"\x03abc" + bytes(60)

    sha1 = OpenSslSha1.deserialize(saved)
    sha1.update(b"d" * 61)

    theirs = PySha1.deserialize(saved)
    theirs.update(b"d" * 61)
    assert sha1.serialize() == theirs.serialize()


@pytest.mark.parametrize("saved", [b"", bytes(91), bytes(93), bytes(28) + b"\x40" + bytes(63)])
def test_what_is_no_state_is_refused(saved: bytes) -> None:
    with pytest.raises(ValueError, match="no state"):
        OpenSslSha1.deserialize(saved)
