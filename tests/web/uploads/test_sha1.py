"""The page's SHA-1 of a stream, against that of Python."""

from __future__ import annotations

import base64
import hashlib
import random

from tests.real.page_modules import run_modules

HASH = """
  const { Sha1 } = await load("uploads/hashing/sha1.js");
  return value.map((pieces) => {
    const sha1 = new Sha1();
    for (const piece of pieces) sha1.update(Buffer.from(piece, "base64"));
    return sha1.digest();
  });
"""
HASH_ZEROS = """
  const { Sha1 } = await load("uploads/hashing/sha1.js");
  const sha1 = new Sha1();
  const zeros = new Uint8Array(1 << 20);
  for (let i = 0; i < value; i++) sha1.update(zeros);
  return sha1.digest();
"""


def test_digests_of_all_lengths_around_a_block_in_pieces_of_any_length(seed: int) -> None:
    choices = random.Random(seed)
    contents = [choices.randbytes(length) for length in (*range(260), 4096, 100_001)]
    cut = [_cut(content, choices) for content in contents]

    digests = run_modules(HASH, [[base64.b64encode(piece).decode() for piece in pieces] for pieces in cut])

    assert digests == [hashlib.sha1(content, usedforsecurity=False).hexdigest() for content in contents]


def test_a_long_stream(*, soak: bool) -> None:
    """In the long campaign its number of bits needs more than 32 bits."""
    mebibytes = 4097 if soak else 3
    expected = hashlib.sha1(usedforsecurity=False)
    for _ in range(mebibytes):
        expected.update(bytes(1 << 20))

    assert run_modules(HASH_ZEROS, mebibytes) == expected.hexdigest()


def _cut(content: bytes, choices: random.Random) -> list[bytes]:
    pieces = []
    while content:
        length = choices.choice((0, 1, 63, 64, 65, choices.randrange(1, 300), len(content)))
        pieces.append(content[:length])
        content = content[length:]
    return pieces
