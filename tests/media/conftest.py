"""One processor for all tests of media: what they share is its fork server, as in the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.config import Settings
from app.media.processor import MediaProcessor
from app.media.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
async def processor() -> AsyncIterator[MediaProcessor]:
    async with MediaProcessor(Settings(MEDIAVAULT_MEDIA_SECONDS=60)).running() as processor:  # pyright: ignore[reportCallIssue]
        yield processor


@pytest.fixture(scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().running() as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the processor may write to; originals lie beside it."""
    made = tmp_path / "made"
    made.mkdir()
    return made
