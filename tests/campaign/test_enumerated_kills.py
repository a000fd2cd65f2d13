"""A process is killed right before and right after each single effect that an upload, a removal or a task has on
catalogue and storage, on both stacks. Outside the long campaigns, at one in four of these moments: the seed tells with
which to begin.

After each kill, every stored object has a row, a sweep makes catalogue and storage agree exactly, and the operation can
be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.catalog.schema.records import FileKind, TaskState
from tests.api.consistency import assert_consistent, differences, read_state
from tests.campaign.fork_client import ForkServer
from tests.real.accounts import Account
from tests.real.notes import Note
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes, upload, uploaded

MANY_EFFECTS = 60
SHORT_STRIDE = 4
"""Outside the long campaigns, one moment in so many."""
UPLOADS = {
    ("local", "small"): ["file row begun", "temporary file made", "bytes written", "file flushed", "file named"],
    ("s3", "small"): ["file row begun", "object put"],
    ("local", "large"): ["file row begun", "temporary file made", "bytes written", "file flushed", "file named"],
    ("s3", "large"): ["file row begun", "multipart upload created", "part uploaded", "multipart upload completed"],
}
SIZES = {"small": 20_000, "large": 9_000_000}
TASKS: dict[str, list[str]] = {
    "local": ["task claimed", *UPLOADS["local", "small"], "derivatives swapped", "motion added", "task done"],
    "s3": [
        "task claimed",
        "original staged",
        *UPLOADS["s3", "small"],
        "derivatives swapped",
        "motion added",
        "task done",
    ],
}
REMOVAL = ["doom transaction", "claim", "object deleted", "row forgotten"]


@pytest.fixture
def service(stack: Engine, stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    """A service on the same data, which shows the state to clients."""
    with Service(stacks.create(stack, tmp_path / "service")) as service:
        yield service


@pytest.fixture
def account(service: Service) -> Account:
    return service.people.add()


@pytest.fixture
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    with service.client(account) as client:
        yield client


@dataclass(frozen=True, slots=True)
class KillMoments:
    """Which of the moments are tried: one in `stride`, from the one with number `first`."""

    first: int
    stride: int

    def iterate(self, *, before: bool) -> Iterator[tuple[int, bool]]:
        """Numbers of effects, and whether to die after the effect. Without `before` only after effects."""
        moments = [
            (effect, after) for effect in range(1, MANY_EFFECTS) for after in ((False, True) if before else (True,))
        ]
        yield from moments[self.first :: self.stride]


@pytest.fixture
def moments(*, soak: bool, seed: int) -> KillMoments:
    stride = 1 if soak else SHORT_STRIDE
    return KillMoments(seed % stride, stride)


@pytest.mark.parametrize("size", SIZES)
def test_an_upload_dies_at_every_effect(
    fork_server: ForkServer,
    service: Service,
    account: Account,
    client: httpx.Client,
    stack: Engine,
    size: str,
    moments: KillMoments,
    tmp_path: Path,
    note: Note,
) -> None:
    sent = tmp_path / "sent"
    data = b""

    def die(effect: int, after: bool) -> tuple[int, list[str]]:
        nonlocal data
        data = fresh_bytes(SIZES[size])
        sent.write_bytes(data)
        return fork_server.run(service.stack.settings, user=str(account.id), effect=effect, after=after, data=str(sent))

    def check() -> None:
        answer = upload(client, data)
        assert answer.status_code in (200, 201), answer.text
        assert client.get(f"/api/assets/{answer.json()['id']}/original").content == data

    steps = _die_at_every_effect(service, die, check, moments.iterate(before=True))

    note(f"an upload ({size}) died before and after effects of: {', '.join(steps)} ({stack})")
    assert [*UPLOADS[stack, size], "live transaction"] == [
        step for step in _remove_duplicates(steps) if step != "folder flushed"
    ]


def test_a_duplicate_with_a_sidecar_dies_at_every_effect(
    fork_server: ForkServer,
    service: Service,
    account: Account,
    client: httpx.Client,
    stack: Engine,
    moments: KillMoments,
    tmp_path: Path,
    note: Note,
) -> None:
    sent = tmp_path / "sent"
    asset, data = "", b""

    def die(effect: int, after: bool) -> tuple[int, list[str]]:
        nonlocal asset, data
        data = fresh_bytes(5000)
        sent.write_bytes(data)
        asset = uploaded(client, data)
        return fork_server.run(
            service.stack.settings, user=str(account.id), effect=effect, after=after, data=str(sent), sidecar="<x/>"
        )

    def check() -> None:
        before = client.get(f"/api/assets/{asset}").json()["isFavorite"]
        answer = upload(client, data, fields={"isFavorite": "true"}, sidecar=b"<x/>")
        assert answer.json() == {
            "id": asset,
            "status": "duplicate",
            **({} if before else {"added": ["sidecar", "favorite"]}),
        }
        assert client.get(f"/api/assets/{asset}").json()["isFavorite"]
        assert client.get(f"/api/assets/{asset}/original").content == data

    steps = _die_at_every_effect(service, die, check, moments.iterate(before=False))

    note(f"a duplicate with a sidecar died after effects of: {', '.join(steps)} ({stack})")
    assert steps[-1] == "duplicate completed"
    assert "object put" in steps or "file named" in steps
    assert "live transaction" not in steps


def test_a_removal_dies_at_every_effect(
    fork_server: ForkServer,
    service: Service,
    account: Account,
    client: httpx.Client,
    stack: Engine,
    moments: KillMoments,
    note: Note,
) -> None:
    data = fresh_bytes(5000)
    asset = ""

    def die(effect: int, after: bool) -> tuple[int, list[str]]:
        nonlocal asset
        answer = upload(client, data)
        asset = answer.json()["id"]
        return fork_server.run(service.stack.settings, user=str(account.id), effect=effect, after=after, asset=asset)

    def check() -> None:
        answer = client.get(f"/api/assets/{asset}")
        if answer.status_code == 200:
            assert client.get(f"/api/assets/{asset}/original").content == data
            assert client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True}).status_code == 204
        assert client.get(f"/api/assets/{asset}").status_code == 404

    steps = _die_at_every_effect(service, die, check, moments.iterate(before=True))

    note(f"a removal died before and after effects of: {', '.join(steps)} ({stack})")
    assert _remove_duplicates(steps) == REMOVAL
    uploaded(client, fresh_bytes(1000))


def test_a_task_dies_at_every_effect(
    fork_server: ForkServer,
    service: Service,
    account: Account,
    client: httpx.Client,
    stack: Engine,
    moments: KillMoments,
    note: Note,
) -> None:
    """After each kill, the task is taken back as from a dead process, and the next process completes it."""
    photo = ""

    def die(effect: int, after: bool) -> tuple[int, list[str]]:
        nonlocal photo
        photo = uploaded(client, fresh_bytes(5000))
        return fork_server.run(service.stack.settings, user=str(account.id), effect=effect, after=after, photo=photo)

    def check() -> None:
        service.people.call(lambda catalog: catalog.tasks.recover_lapsed())
        again, _ = fork_server.run(service.stack.settings, user=str(account.id), effect=0, after=False, photo=photo)
        assert again == 0
        task = service.people.call(lambda catalog: catalog.tasks.get_for_asset(UUID(photo)))
        made = service.people.call(lambda catalog: catalog.derivatives.get_for_asset(UUID(photo)))
        assert task is not None
        assert (task.state, set(made)) == (TaskState.DONE, {FileKind.PREVIEW, FileKind.THUMBNAIL})
        assert client.get(f"/api/assets/{photo}").json()["livePhotoVideoId"]
        assert [path for path in fork_server.staging.rglob("*") if path.is_file()] == []

    # Only after each effect: a task has nothing between two effects, so before one is the same as after the previous
    # one.
    steps = _die_at_every_effect(service, die, check, moments.iterate(before=False))

    note(f"a task died after effects of: {', '.join(steps)} ({stack})")
    assert [step for step in _remove_duplicates(steps) if step != "folder flushed"] == TASKS[stack]


def _die_at_every_effect(
    service: Service,
    die: Callable[[int, bool], tuple[int, list[str]]],
    check: Callable[[], None],
    moments: Iterator[tuple[int, bool]],
) -> list[str]:
    """Returns the steps of the run that survived."""
    for effect, after in moments:
        status, steps = die(effect, after)
        moment = f"{'after' if after else 'before'} effect {effect}, {steps[-1]!r}"
        found = differences(read_state(service.stack), exact=False)
        assert not found, f"killed {moment}: {found}"
        sweep_everything(service)
        assert_consistent(service.stack, exact=True)
        assert service.stack.leftovers() == [], moment
        check()
        if status == 0:
            return steps
    raise AssertionError(f"more than {MANY_EFFECTS} effects")


def _remove_duplicates(steps: list[str]) -> list[str]:
    return list(dict.fromkeys(steps))
