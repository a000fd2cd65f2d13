"""Folders on a disk whose file system tells what is in memory, for tests of what is read or sent from there. tmpfs does not."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]


@contextmanager
def disk_folder(usual: Path) -> Iterator[Path]:
    """`usual`, or a new folder below the checkout, which is removed at the end. Skips the test if neither will do."""
    if tells_what_is_in_memory(usual):
        yield usual
        return
    other = _CHECKOUT / ".pytest_cache" / secrets.token_hex(8)
    other.mkdir(parents=True)
    try:
        if not tells_what_is_in_memory(other):
            pytest.skip("no disk here whose file system has reads that never wait (RWF_NOWAIT)")
        yield other
    finally:
        shutil.rmtree(other)


def tells_what_is_in_memory(folder: Path) -> bool:
    probe = folder / f"probe-{secrets.token_hex(4)}"
    probe.write_bytes(b"x")
    try:
        with probe.open("rb", buffering=0) as file:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        probe.unlink()
