"""Processes that share one folder are killed in the middle of fills, removals and evictions: no block ever has other bytes than its
version."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from app.storage.cache.eviction import evict
from tests.real.notes import Note
from tests.real.spawning import spawner
from tests.real.waiting import eventually
from tests.storage.cache.block_files import KEYS, check_block, count_bytes, open_store, store_version
from tests.storage.cache.churning_process import LIMIT

PROCESSES = 2


def test_nothing_wrong_is_read_after_any_kill(tmp_path: Path, seed: int, note: Note, *, soak: bool) -> None:
    chance, root = random.Random(seed), tmp_path / "cache"
    store = open_store(root, limit=LIMIT)
    kills = 500 if soak else 8
    running = []
    try:
        for n in range(kills):
            output = tmp_path / f"output-{n}"
            program = ("tests.storage.cache.churning_process", str(root), f"{seed} {n}")
            running.append((spawner().spawn(program, tmp_path, os.environ, output, output), output))
            if len(running) < PROCESSES:
                continue
            process, text = running.pop(0)
            eventually(
                lambda text=text, process=process: process.poll() is not None or "begun" in text.read_text(),
                "it has begun",
            )
            until = time.monotonic() + chance.uniform(0.0, 0.15)
            while time.monotonic() < until:
                check_block(store, chance.choice(KEYS))
            assert process.poll() is None, text.read_text()
            process.kill()
            process.wait(10)
    finally:
        for process, _ in running:
            process.kill()
            process.wait(10)
    assert count_bytes(root) <= LIMIT
    for key in KEYS:
        check_block(store, key)
    assert evict(store)
    assert store.folder.read_usage() == count_bytes(root)
    assert not list(root.glob("mediavault-blocks/???/*.tmp")), "locks of killed processes are free"
    for key in KEYS:
        store.remove_object(check_block(store, key))
        assert store_version(store, key, 0), "a killed writer keeps nobody from writing"
        check_block(store, key)
    note(f"cache: {kills} kills of {PROCESSES} processes on one folder")
