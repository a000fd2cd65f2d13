"""Importing this module loads what services and commands load after their start: the whole application with its routes, the S3 client and its
service description, the HTTP server, the PostgreSQL driver. Processes that are forked afterwards start without that work, which is more than a
second of CPU for a service on S3.
"""

from __future__ import annotations

import asyncio
import encodings.idna
import tempfile
from functools import cache
from pathlib import Path

import alembic.command
import anyio._backends._asyncio
import anyio._core._sockets
import anyio._core._streams
import botocore.session
import fastapi_offline
import psycopg
import structlog.testing
import typer._adapters
import typer.main
import uvicorn.lifespan.on
import uvicorn.loops.uvloop
import uvloop
from pydantic import SecretStr

import app.api.http.protocol
import app.api.logging_setup
import app.cli
import app.cli.storage_access
import app.jobs.postgres_broker
import app.main
import app.migration.consistency.consistency_check
import app.migration.steps.cleanup_step
import app.migration.steps.plan_step
import app.migration.steps.rollback_step
import app.migration.steps.run_step
import app.migration.steps.switch_step
import app.storage.s3
from app.config import Settings
from tests.real.sdk_caches import keep_sdk_descriptions

__all__ = ["alembic", "anyio", "app", "encodings", "fastapi_offline", "psycopg", "typer", "uvicorn", "uvloop"]


def preload_s3_description() -> None:
    """Load the SDK's service description, and keep it."""
    keep_sdk_descriptions()
    session = botocore.session.get_session()
    session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="unused",
        aws_secret_access_key="unused",
    )


preload_s3_description()


def warm_up() -> None:
    """Build the command line, and open all services once on an empty folder: what the libraries then compute and keep, children need not."""
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app.cli.cli)
    with tempfile.TemporaryDirectory() as folder, structlog.testing.capture_logs():
        settings = Settings(
            _env_file=None,  # pyright: ignore[reportCallIssue]
            media_location=Path(folder, "media"),
            staging_folder=Path(folder, "staging"),
            db_url=SecretStr(f"sqlite:///{folder}/catalogue.db"),
            backup_hours=0,
        )
        app.main.create_app(settings)
        asyncio.run(_open_services(settings))


async def _open_services(settings: Settings) -> None:
    async with app.main.open_services(settings, process_tasks=False):
        pass
