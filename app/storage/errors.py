"""What can go wrong with stored objects, as types.

Nothing above `storage` sees an `OSError` or a botocore exception: each backend has one table that
translates its own failures into these.
"""

from __future__ import annotations

from collections.abc import Sequence


class StorageError(Exception):
    """Base of all storage errors; carries what is needed to act on it.

    `key` is the key or path concerned, `backend` the backend's name (`local`, `s3`, `external`). `hint` is what an operator may do about
    it, where that can be guessed. `probe_was_stored` is True where a test object was written, and then could not be read or removed.
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
    """There is no such object. A missing bucket is `StorageUnavailable`: it must never look like a lost photo."""


class ObjectExists(StorageError):
    """A managed key is written once; this one is taken."""


class ObjectChanged(StorageError):
    """The object is not the one that the read began with, or that `if_match` named."""


class ObjectTooLarge(StorageError):
    """More bytes than the store can hold in one object, or than were announced."""


class ObjectIncomplete(StorageError):
    """Fewer bytes than were announced, or than were written, have arrived; the write is given up."""


class RangeNotSatisfiable(StorageError):
    """The range starts at or past the end; `size` is the object's size in bytes."""

    def __init__(self, key: str, backend: str, size: int) -> None:
        self.size = size
        super().__init__(key, backend, f"size is {size}")


class StorageFull(StorageError):
    """No space, no quota or no inodes left on the disk or in the bucket."""


class StagingFull(StorageFull):
    """No room in the staging folder, for now: what lies there is gone when the work on it ends."""

    retryable = True


class StoragePermission(StorageError):
    """The credentials or the file's mode do not allow it, or the area is read-only."""


class ListingIncomplete(StoragePermission):
    """`folders` may not be listed; everything else has been. What lies in them is neither known to be there nor to be missing."""

    def __init__(self, folders: Sequence[str], backend: str) -> None:
        every = list(dict.fromkeys(folders))
        self.folders = tuple(every)
        more = f", and {len(every) - 1} more folders" if len(every) > 1 else ""
        super().__init__(every[0], backend, f"{every[0]} may not be listed{more}")


class StorageRefused(StorageError):
    """The store refused a request that it ought to take, or its answer cannot be used. No object is damaged."""


class StorageUnavailable(StorageError):
    """The store does not answer, or not in time. Trying again later may work.

    After a write it is not known whether the object was stored.
    """

    retryable = True


class StorageReadOnly(StorageUnavailable):
    """Nothing can be written there for now: the file system is mounted read-only, or the permissions of the folder do not allow it."""
