"""Block stores on a folder of the test, and the blocks of generated objects."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path

from app.storage.backend import ObjectInfo
from app.storage.cache.block_format import BLOCK_BYTES, BlockId
from app.storage.cache.block_store import BlockCounts, BlockStore
from app.storage.cache.eviction import evict
from app.storage.cache.folder import CacheFolder

LOCATION = "https://store.example/photos/"
GIBIBYTE = 1024**3


def open_store(root: Path, *, limit: int = GIBIBYTE, reserve: int = 0) -> BlockStore:
    store = BlockStore(CacheFolder(root), BlockCounts(), limit=limit, reserve=reserve)
    if store.folder.read_usage() is None:
        assert evict(store)
    return store


def block_id(key: str, index: int = 0) -> BlockId:
    return BlockId(LOCATION, key, index)


def make_info(key: str, size: int, etag: str = '"one"') -> ObjectInfo:
    return ObjectInfo(key, size, datetime(2026, 11, 30, tzinfo=UTC), etag)


def make_bytes(key: str, size: int) -> bytes:
    """The same for the same key."""
    return random.Random(key).randbytes(size)


def store_object(store: BlockStore, key: str, size: int, etag: str = '"one"') -> bool:
    """Puts all blocks of a generated object into the store. False where one was not taken."""
    data = make_bytes(key, size)
    published = True
    for first in range(0, size, BLOCK_BYTES):
        pending = store.begin(block_id(key, first // BLOCK_BYTES))
        assert pending is not None
        piece = data[first : first + BLOCK_BYTES]
        published &= store.publish(pending, make_info(key, size, etag), [piece[:1000], piece[1000:]])
    return published


def load(store: BlockStore, key: str, index: int = 0) -> bytes | None:
    """The bytes of a block; None for a miss."""
    block = store.open(block_id(key, index))
    if block is None:
        return None
    try:
        return os.pread(block.descriptor, block.header.length, block.data_offset)
    finally:
        block.release()


def block_paths(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("mediavault-blocks/???/*") if path.suffix != ".tmp")


def open_descriptors(folder: Path) -> list[str]:
    """Those of this process that lead into the folder."""
    targets = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [target for target in targets if target.startswith(str(folder))]


def count_bytes(root: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in block_paths(root))


KEYS = tuple(f"object {n}" for n in range(20))


def store_version(store: BlockStore, key: str, version: int) -> bool:
    """Stores version `version` of an object as one block of up to 2 MiB. False where another writer has it, or there is no room."""
    pending = store.begin(block_id(key))
    if pending is None:
        return False
    data = make_version(key, version)
    return store.publish(pending, make_info(key, len(data), f'"{version}"'), [data[:700_000], data[700_000:]])


def make_version(key: str, version: int) -> bytes:
    chance = random.Random(f"{key} {version}")
    return chance.randbytes(512) * chance.randrange(1, 4096)


def check_block(store: BlockStore, key: str) -> str:
    """Asserts that a block, if there is one, has the bytes of the version that it names. Returns the object's name."""
    block = store.open(block_id(key))
    if block is not None:
        expected = make_version(key, int(block.info.etag.strip('"')))
        assert os.pread(block.descriptor, block.header.length, block.data_offset) == expected, f"{key}: other bytes"
        block.release()
    return block_id(key).object_name
