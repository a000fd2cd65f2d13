"""The storage backend for an S3 bucket, opened by `open_s3`."""

from __future__ import annotations

from app.config import Settings
from app.storage.s3.backend import S3Backend
from app.storage.s3.part_sizes import MAXIMUM_PART_BYTES
from app.storage.s3.protocol.client import connect_client
from app.storage.s3.protocol.upload_body import WriteBudget
from app.storage.s3.reader import open_reader
from app.storage.s3.writer import S3WriterFactory

__all__ = ["S3Backend", "open_s3"]


async def open_s3(settings: Settings) -> S3Backend:
    """The backend for the bucket and prefix of the settings. Sends no request to the store yet: `probe` does.

    Raises `StorageError` where no client can be made, for example without credentials for a role.
    """
    client = await connect_client(settings)
    reader = await open_reader(client, settings)
    budget = WriteBudget(settings.s3_write_buffer, MAXIMUM_PART_BYTES, settings.s3_deadline)
    return S3Backend(
        client, reader, S3WriterFactory(client, budget, settings.s3_deadline), deadline=settings.s3_deadline
    )
