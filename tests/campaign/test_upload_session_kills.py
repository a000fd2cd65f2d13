"""A process is killed right after each single effect that a resumable upload has on catalogue and storage, and at random moments.

After each kill the session goes on in another process, at an offset that no acknowledged byte lies behind; in the end the file is whole,
and nothing of the session is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.schema.upload_records import UploadState
from app.uploads.sessions.session_values import UploadStatus
from tests.api.consistency import differences, read_state
from tests.campaign.fork_client import ForkServer
from tests.real.notes import Note
from tests.real.stacks import Engine, Stacks
from tests.uploads.sessions.session_place import SessionPlace, make_photo, open_place

SIZES = {"local": 300_000, "s3": 9_500_000}
CUTS = {"local": (1_000, 70_000, 200_000), "s3": (1_000, 70_000, 5_000_000)}
"""Ends of requests: in the head, after it, in the first part of S3; the last request fills that part."""
UNCHECKED_ORDER = ("file closed", "folder flushed")
EFFECTS = {
    "local": [
        "session taken over",
        "session saved",
        "file row begun",
        "temporary file made",
        "bytes written",
        "file flushed",
        "file named",
    ],
    "s3": [
        "session taken over",
        "session saved",
        "file row begun",
        "tail put",
        "tail deleted",
        "multipart upload created",
        "part uploaded",
        "multipart upload completed",
    ],
}


@pytest.fixture
async def place(stack: Engine, stacks: Stacks, tmp_path: Path) -> AsyncIterator[SessionPlace]:
    async with open_place(stacks, stack, tmp_path) as place:
        yield place
        await place.assert_consistent()


class KilledUpload:
    """One session whose process is killed again and again."""

    def __init__(
        self, place: SessionPlace, fork_server: ForkServer, folder: Path, status: UploadStatus, seed: int
    ) -> None:
        self._place = place
        self._fork_server = fork_server
        self._id = status.id
        self.data = make_photo(status.length or 0, seed)
        self._sent = folder / f"sent-{seed}"
        self._sent.write_bytes(self.data)

    async def die(self, effect: int, cuts: tuple[int, ...], *, step: str = "", pause: float = 0.0) -> list[str]:
        """Go on in a process that is killed after its `effect`-th effect. Returns its steps."""
        _, steps = await asyncio.to_thread(
            self._fork_server.run,
            self._place.stack.settings,
            user=str(self._place.user.id),
            effect=effect,
            after=True,
            data=str(self._sent),
            session=str(self._id),
            credential=str(self._place.caller.credential_id),
            cuts=",".join(map(str, cuts)),
            step=step,
            pause=pause,
        )
        return steps

    async def check(self, moment: str) -> UploadStatus:
        """What the killed process left: every object has a row, and no acknowledged byte has to be sent again."""
        found = await asyncio.to_thread(lambda: differences(read_state(self._place.stack), exact=False))
        assert not found, f"killed {moment}: {found}"
        status = await self._place.status(self._id)
        acknowledged = self._sent.with_name(f"{self._sent.name}.acknowledged")
        told = [int(line) for line in acknowledged.read_text().split()] if acknowledged.exists() else []
        assert status.offset >= max(told, default=0), f"killed {moment}: {told} were acknowledged"
        return status

    async def finish(self, status: UploadStatus) -> None:
        if status.state is not UploadState.COMPLETE:
            status = await self._place.send(self._id, status.offset, self.data[status.offset :])
        assert status.result is not None
        asset = await self._place.catalog.assets.get(status.result.asset_id)
        assert asset is not None
        assert (asset.checksum, asset.file.size) == (hashlib.sha1(self.data).digest(), len(self.data))
        async with self._place.processes[0].storage.read(asset.file.path) as stream:
            assert b"".join([chunk async for chunk in stream.chunks]) == self.data
        await self._place.catalog.assets.delete(self._place.user.id, [asset.id])


async def test_an_upload_session_dies_at_every_effect(
    place: SessionPlace, fork_server: ForkServer, stack: Engine, tmp_path: Path, soak: bool, note: Note
) -> None:
    """In the short run at the first and the last occurrence of each effect."""
    whole = KilledUpload(place, fork_server, tmp_path, await place.create(SIZES[stack]), 0)
    steps = await whole.die(0, CUTS[stack])
    await whole.finish(await whole.check("at no effect"))
    assert [each for each in dict.fromkeys(steps) if each not in UNCHECKED_ORDER] == [
        *EFFECTS[stack],
        "live transaction",
    ]

    occurrences = {step: [at for at, each in enumerate(steps, start=1) if each == step] for step in steps}
    chosen = {at for each in occurrences.values() for at in (each[0], each[-1])}
    for effect in range(1, len(steps) + 1) if soak else sorted(chosen):
        upload = KilledUpload(place, fork_server, tmp_path, await place.create(SIZES[stack]), effect)
        died = await upload.die(effect, CUTS[stack])
        assert len(died) >= effect
        await upload.finish(await upload.check(f"after effect {effect}, {died[-1]!r}"))
    note(f"an upload session died after each of: {', '.join(dict.fromkeys(steps))} ({stack})")


async def test_an_upload_session_dies_at_random_moments(
    place: SessionPlace, fork_server: ForkServer, stack: Engine, tmp_path: Path, soak: bool, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    kills = 200 if soak else 10
    hit: Counter[str] = Counter()
    number = 0
    while hit.total() < kills:
        number += 1
        upload = KilledUpload(place, fork_server, tmp_path, await place.create(SIZES[stack]), seed + number)
        status = None
        while status is None or status.state is not UploadState.COMPLETE:
            cuts = tuple(sorted(dice.sample(range(1, SIZES[stack]), 3)))
            died = await upload.die(dice.randrange(1, 20), cuts, pause=dice.uniform(0.001, 0.05))
            status = await upload.check(f"in {died[-1]!r} (seed {seed})")
            if status.state is not UploadState.COMPLETE:
                hit[died[-1]] += 1
        await upload.finish(status)
    note(f"{hit.total()} kills of {number} upload sessions on {stack}: {dict(hit.most_common())} (seed {seed})")
