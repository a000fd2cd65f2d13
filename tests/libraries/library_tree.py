"""Fixtures of library tests: a folder tree, an external library over it, and the catalogue; mounts; dropped privileges."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.library_records import Library, LibraryChanges, ScanReport
from app.catalog.schema.records import Asset
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS
from app.libraries.scanning.scan import LibraryScan, OnScanProgress
from app.libraries.scanning.walk import ScanScope

Mount = Callable[[Path], None]
Bind = Callable[[Path, Path], None]


class LibraryTree:
    """An external library with one import path, `root`, which tests fill and scan."""

    def __init__(self, root: Path, catalog: Catalog, library: Library, threads: ThreadPoolExecutor) -> None:
        self.root = root
        self.catalog = catalog
        self.threads = threads
        self._library_id = library.id

    @property
    def id(self) -> UUID:
        return self._library_id

    async def library(self) -> Library:
        library = await self.catalog.libraries.get(self._library_id)
        assert library is not None
        return library

    def write(self, name: str, content: bytes = b"photo") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def fill(self, count: int, folder: str = "album") -> list[Path]:
        return [self.write(f"{folder}/IMG_{number:05}.jpg", b"%d" % number) for number in range(count)]

    async def scan(
        self,
        *,
        accept_missing: bool = False,
        scopes: Sequence[ScanScope] | None = None,
        settled_before: float | None = None,
        progress: OnScanProgress | None = None,
        reserved_folders: Sequence[ReservedFolder] = (),
    ) -> ScanReport:
        scan = LibraryScan(
            self.catalog,
            await self.library(),
            self.threads,
            accept_missing=accept_missing,
            scopes=scopes,
            settled_before=settled_before,
            on_progress=progress,
            reserved_folders=reserved_folders,
        )
        return await scan.run()

    async def change(self, **changes: object) -> None:
        await self.catalog.libraries.update(self._library_id, LibraryChanges(**changes))  # pyright: ignore[reportArgumentType]

    async def assets(self, *, trashed: bool = False) -> dict[str, Asset]:
        """The assets by their path below the root."""
        library = await self.library()
        found: dict[str, Asset] = {}
        cursor = None
        while True:
            page, cursor = await self.catalog.assets.get_page(
                library.owner_id, cursor=cursor, limit=1000, trashed=trashed, library_id=library.id
            )
            for asset in page:
                relative = asset.file.path.removeprefix(f"{self.root}/")
                assert relative not in found
                found[relative] = asset
            if cursor is None:
                return found

    async def names(self, *, trashed: bool = False) -> set[str]:
        return set(await self.assets(trashed=trashed))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
async def library(catalog: Catalog, tmp_path: Path) -> Library:
    return await make_library(catalog, tmp_path / "nas")


async def make_library(catalog: Catalog, root: Path) -> Library:
    owner = await catalog.users.create("owner@example.org", "Owner")
    root.mkdir()
    return await catalog.libraries.create(owner.id, "NAS", (str(root),), DEFAULT_EXCLUSIONS)


@pytest.fixture
async def tree(catalog: Catalog, library: Library, threads: ThreadPoolExecutor) -> LibraryTree:
    return LibraryTree(Path(library.import_paths[0]), catalog, library, threads)


@pytest.fixture
def mount_tmpfs() -> Iterator[Mount]:
    """A function that mounts a tmpfs on a folder; unmounted at the end. Needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    with ExitStack() as stack:

        def mount(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=16m", "mediavault-test", folder], check=True, timeout=30
            )
            stack.callback(subprocess.run, ["umount", "--lazy", folder], capture_output=True, timeout=30)

        yield mount


@pytest.fixture
def bind_mount() -> Iterator[Bind]:
    """A function that bind-mounts a folder on another one; unmounted at the end. Needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    with ExitStack() as stack:

        def bind(folder: Path, target: Path) -> None:
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", folder, target], check=True, timeout=30)
            stack.callback(subprocess.run, ["umount", "--lazy", target], capture_output=True, timeout=30)

        yield bind


def unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True, timeout=30)


def drop_capabilities() -> None:
    """Drops the capabilities of the calling thread, so that file modes apply to root, too. Other threads keep theirs."""
    if os.geteuid() != 0:
        return

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Data(ctypes.Structure):
        _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))

    data = (Data * 2)()
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(Header(0x20080522, 0)), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
