"""Simulates folders that may be searched but not listed (mode 0311), because the kernel refuses nothing to root, who may run the tests.
`tests/storage/test_local.py` tests real ones."""

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
