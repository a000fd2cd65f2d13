"""Importing this module loads what services and commands load after their start: the S3 client and its service description, the HTTP server, the
PostgreSQL driver. Processes that are forked afterwards start without that work, which is a second of CPU for a service on S3.
"""

from __future__ import annotations

from functools import cache

import anyio._core._sockets
import anyio._core._streams
import botocore.loaders
import botocore.session
import fastapi_offline
import psycopg
import uvicorn
import uvloop

import app.api.http.protocol
import app.jobs.postgres_broker
import app.storage.s3

__all__ = ["anyio", "app", "fastapi_offline", "psycopg", "uvicorn", "uvloop"]


def preload_s3_description() -> None:
    """Keep the SDK's service description in memory: without this, each client parses megabytes of JSON."""
    botocore.session.create_loader = cache(botocore.loaders.create_loader)
    session = botocore.session.get_session()
    session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="unused",
        aws_secret_access_key="unused",
    )


preload_s3_description()
