"""The errors that storage raises.

No caller of `storage` sees an `OSError` or a botocore exception: each backend translates its own errors by one table.
"""

from __future__ import annotations

from collections.abc import Sequence


class StorageError(Exception):
    """Base class of all storage errors.

    `key` is the key or path concerned, `backend` the backend's name (`local`, `s3`, `external`). `hint` suggests a remedy to the operator,
    where the cause can be guessed. `probe_was_stored` is True where a test object was written, but then could not be read or removed.
    """

    retryable = False
    probe_was_stored = False

    def __init__(self, key: str, backend: str, detail: str = "", hint: str = "") -> None:
        self.key = key
        self.backend = backend
        self.detail = detail
        self.hint = hint
        text = f"{type(self).__name__}: {backend} {key!r}{': ' + detail if detail else ''}"
        super().__init__(f"{text} ({hint})" if hint else text)


class InvalidKey(StorageError):
    """The text is no valid key (see `Key`), or a key would lie below another object."""


class ObjectNotFound(StorageError):
    """There is no such object. A missing bucket is `StorageUnavailable` instead: it must never look like a lost photo."""


class ObjectExists(StorageError):
    """The key is taken. A managed key is written only once."""


class ObjectChanged(StorageError):
    """The object was changed during the read, or its etag differs from `if_match`."""


class ObjectTooLarge(StorageError):
    """More bytes than the store can hold in one object, or than were announced."""


class ObjectIncomplete(StorageError):
    """Fewer bytes than announced or written have arrived; the write is aborted."""


class RangeNotSatisfiable(StorageError):
    """The range starts at or past the end; `size` is the object's size in bytes."""

    def __init__(self, key: str, backend: str, size: int) -> None:
        self.size = size
        super().__init__(key, backend, f"size is {size}")


class StorageFull(StorageError):
    """No space, no quota or no inodes left on the disk or in the bucket."""


class StagingFull(StorageFull):
    """No room in the staging folder for now: staged files are removed when the work on them ends."""

    retryable = True


class StoragePermission(StorageError):
    """The credentials or the file's mode do not allow it, or the location is read-only."""


class ListingIncomplete(StoragePermission):
    """`folders` could not be listed for lack of permission; everything else was listed. Whether files exist in them is unknown."""

    def __init__(self, folders: Sequence[str], backend: str) -> None:
        unique = list(dict.fromkeys(folders))
        self.folders = tuple(unique)
        more = f", and {len(unique) - 1} more folders" if len(unique) > 1 else ""
        super().__init__(unique[0], backend, f"{unique[0]} may not be listed{more}")


class StorageRefused(StorageError):
    """The store refused a valid request, or its answer cannot be used. No object is damaged."""


class StorageUnavailable(StorageError):
    """The store does not answer in time. A retry may succeed.

    After a failed write it is unknown whether the object was stored.
    """

    retryable = True


class CopyLookupFailed(StorageUnavailable):
    """The catalogue does not answer: whether a foreign file has a copy is unknown."""


class StorageReadOnly(StorageUnavailable):
    """The file system is mounted read-only, or the permissions of the folder forbid writing."""
