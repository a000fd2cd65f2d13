"""A process that fills, reads, removes and evicts blocks of a few objects in the folder that it is given, until it is killed. It ends with
an error where a block has other bytes than its version."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from app.storage.cache.eviction import evict, needs_eviction
from tests.storage.cache.block_files import KEYS, check_block, open_store, store_version

LIMIT = 24 * 1024 * 1024


def main(root: str, seed: str) -> None:
    chance = random.Random(seed)
    store = open_store(Path(root), limit=LIMIT)
    print("begun", flush=True)
    while True:
        key = chance.choice(KEYS)
        match chance.randrange(8):
            case 0:
                store.remove_object(check_block(store, key))
            case 1 | 2 | 3:
                store_version(store, key, chance.randrange(3))
            case _:
                check_block(store, key)
        if needs_eviction(store):
            evict(store)


if __name__ == "__main__":
    main(*sys.argv[1:])
