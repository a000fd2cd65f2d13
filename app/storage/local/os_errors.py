"""Translates `OSError`s to `StorageError`s, by one table of errno values. No caller of storage sees an `OSError`."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)

ERRORS_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOENT: ObjectNotFound,
    errno.EISDIR: ObjectNotFound,
    errno.ENOTDIR: ObjectNotFound,  # in a write it is InvalidKey, see `_WRITE_ERRORS_BY_ERRNO`
    errno.ELOOP: ObjectNotFound,  # a symbolic link, or a circle of them
    errno.ENXIO: ObjectNotFound,  # a socket, or a FIFO without a reader
    errno.EEXIST: ObjectExists,
    errno.ENAMETOOLONG: InvalidKey,
    errno.EINVAL: InvalidKey,  # names that this file system does not take, such as `?` on FAT
    errno.EILSEQ: InvalidKey,
    errno.EFBIG: ObjectTooLarge,
    errno.EOVERFLOW: ObjectTooLarge,
    errno.ENOSPC: StorageFull,
    errno.EDQUOT: StorageFull,
    errno.EMLINK: StorageFull,
    errno.EACCES: StoragePermission,
    errno.EPERM: StoragePermission,
    errno.EROFS: StoragePermission,
    errno.EXDEV: StoragePermission,  # a link that leads outside of the folder
    errno.ETXTBSY: StoragePermission,
    errno.ESTALE: ObjectChanged,  # replaced on the server of a network share while it was open here
    errno.EIO: StorageUnavailable,
    errno.EMFILE: StorageUnavailable,
    errno.ENFILE: StorageUnavailable,
    errno.ENOMEM: StorageUnavailable,
    errno.ENOBUFS: StorageUnavailable,
    errno.EBUSY: StorageUnavailable,
    errno.ENODEV: StorageUnavailable,
    errno.ENOTCONN: StorageUnavailable,
    errno.ETIMEDOUT: StorageUnavailable,
    errno.EHOSTDOWN: StorageUnavailable,
    errno.EHOSTUNREACH: StorageUnavailable,
    errno.EREMOTEIO: StorageUnavailable,
}
"""Every other errno is `StorageUnavailable` too: an unexpected failure of the disk."""

_WRITE_ERRORS_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOTDIR: InvalidKey,  # the key lies below another object
    errno.ELOOP: StoragePermission,
    errno.EISDIR: InvalidKey,  # other objects lie below the key
    errno.ENOENT: StorageUnavailable,  # a folder or the temporary file was removed during the write
    errno.ESTALE: StorageUnavailable,
}


def translate_os_error(error: OSError, key: str, backend: str, *, is_write: bool = False) -> StorageError:
    """The `StorageError` for `error`; `is_write` for errors of a write."""
    number = error.errno or 0
    kind = (_WRITE_ERRORS_BY_ERRNO.get(number) if is_write else None) or ERRORS_BY_ERRNO.get(number, StorageUnavailable)
    return kind(key, backend, error.strerror or str(error))


@contextmanager
def raise_storage_errors(key: str, backend: str, *, is_write: bool = False) -> Generator[None]:
    """Raises `StorageError`s in place of `OSError`s."""
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, key, backend, is_write=is_write) from error
