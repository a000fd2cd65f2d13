"""Folders that give their files to those who know the names, and no list of them (mode 0311): root, whom tests may run as, is refused
nothing, so this takes the place of the kernel's refusal. `tests/storage/test_local.py` shows the real one."""

from __future__ import annotations

import errno
import os

import pytest

from app.storage.local.root_folder import RootFolder


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """`hidden` are keys of folders."""
    names = RootFolder._list_names

    def refusing(self: RootFolder, folder: str) -> list[tuple[str, bool]]:
        if folder in hidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return names(self, folder)

    monkeypatch.setattr(RootFolder, "_list_names", refusing)
