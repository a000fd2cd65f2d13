"""Detects that the file of a SQLite catalogue was moved or replaced while it is open, and refuses to commit from then
on.

SQLite continues to write to a file that was moved away or replaced, and the next start does not see what was written
there. SQLite's own check (`SQLITE_READONLY_DBMOVED`) covers rollback journals only, not the write-ahead log.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any


class SqliteFileGuard:
    """The identity of the file that the first connection opened: device, inode, and the largest size seen.

    A file that is shorter than before has been overwritten in place: SQLite itself shortens a file only after `VACUUM`.
    A file that was overwritten in place by a longer one is not detected. The methods block, for a few microseconds on a
    local disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal_path = Path(f"{path}-wal")
        self._opened: tuple[int, int] | None = None
        self._size = 0

    def record_opened(self) -> None:
        """Record the identity of the file, once the first connection is open."""
        if self._opened is None:
            status = self._path.stat()
            self._opened = (status.st_dev, status.st_ino)

    def check_path(self) -> None:
        """Raises SQLite's error for a moved database when the path no longer leads to the file that was opened."""
        if self._opened is None:
            return
        size = self._size  # read before stat: another thread may see the file grow in between
        try:
            status = self._path.stat()
        except OSError as error:
            raise _moved_error(f"the database file is not at its path: {error.strerror}") from None
        if (status.st_dev, status.st_ino) != self._opened:
            raise _moved_error("the database file was replaced by another one")
        if status.st_size < size:
            raise _moved_error("the database file was overwritten: it is shorter than it was")
        self._size = status.st_size

    def check_wal(self, known: tuple[int, int] | None) -> tuple[int, int] | None:
        """The identity (device and inode) of the write-ahead log, for a connection that has it open: SQLite leaves the
        log in place until that connection closes. `known` is the identity at the last check; None: not checked yet.
        Raises when the identity has changed: the next start would not find what is written to the log."""
        try:
            status = self._wal_path.stat()
        except OSError as error:
            if known is None:
                return None
            raise _moved_error(f"the database's write-ahead log is not at its path: {error.strerror}") from None
        current = (status.st_dev, status.st_ino)
        if known not in (None, current):
            raise _moved_error("the database's write-ahead log was replaced by another one")
        return current


class SqliteConnection(sqlite3.Connection):
    """A connection that checks its file at each commit. It runs in the driver's thread, so a disk that hangs never
    blocks the event loop."""

    def __init__(self, *arguments: Any, file: SqliteFileGuard, **options: Any) -> None:
        self._file = file
        self._wal_identity: tuple[int, int] | None = None
        super().__init__(*arguments, **options)

    def commit(self) -> None:
        """Raises before the commit and again before the commit is reported: the file may be moved in between."""
        if not self.in_transaction:
            return
        self._check_file()
        super().commit()
        self._check_file()

    def _check_file(self) -> None:
        self._file.check_path()
        self._wal_identity = self._file.check_wal(self._wal_identity)

    def close(self) -> None:
        """Roll back, then close. SQLite keeps a closed connection, and its lock on the database, until the last cursor
        is garbage-collected, and the cursors of a cancelled call live on in its traceback."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def _moved_error(reason: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    return error
