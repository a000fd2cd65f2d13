"""Separate worker processes, and the command that processes assets again, run as an operator runs them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import delete

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, Task, TaskState
from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.real.sample_media import make_jpeg, make_long_video
from tests.real.service import COMMAND, WORKING, Service
from tests.real.stacks import Engine
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually
from tests.real.worker import Worker

PICTURES = {FileKind.THUMBNAIL, FileKind.PREVIEW}
STOP_SECONDS = 25.0
COMMAND_SECONDS = 60.0


def task_of(service: Service, asset: str) -> Task:
    task = service.people.call(lambda catalog: catalog.tasks.get_for_asset(UUID(asset)))
    assert task is not None
    return task


def was_tried(service: Service, asset: str) -> bool:
    task = task_of(service, asset)
    return task.attempts > 0 and task.state is not TaskState.RUNNING


def files_of(service: Service, asset: str) -> dict[FileKind, UUID]:
    made = service.people.call(lambda catalog: catalog.derivatives.get_for_asset(UUID(asset)))
    return {kind: derivative.file.id for kind, derivative in made.items()}


def wait_until(service: Service, asset: str, state: TaskState) -> None:
    eventually(lambda: task_of(service, asset).state is state, f"the task is {state}", within=60)


def some_photos(service: Service, number: int) -> list[str]:
    with service.client(service.people.add()) as client:
        return [uploaded(client, make_jpeg(), "photo.jpg") for _ in range(number)]


def test_a_worker_does_what_a_service_without_one_leaves(
    start_service: StartService, stack: Engine, tmp_path: Path
) -> None:
    service = start_service(stack)
    photos = some_photos(service, 3)
    assert {task_of(service, photo).state for photo in photos} == {TaskState.PENDING}

    with Worker(service, tmp_path / "worker") as worker:
        for photo in photos:
            wait_until(service, photo, TaskState.DONE)
        (late,) = some_photos(service, 1)
        wait_until(service, late, TaskState.DONE)
        assert worker.stop() == 0
        assert "Traceback" not in worker.log
        assert worker.leftovers() == []

    assert all(set(files_of(service, photo)) == PICTURES for photo in (*photos, late))


def test_a_worker_follows_no_link_out_of_a_library(start_service: StartService, tmp_path: Path) -> None:
    """A symbolic link that was redirected after the scan: no thumbnail is made of a file outside the library."""
    service = start_service("local")
    nas, elsewhere = tmp_path / "nas", tmp_path / "elsewhere.jpg"
    nas.mkdir()
    (nas / "own.jpg").write_bytes(make_jpeg())
    elsewhere.write_bytes((nas / "own.jpg").read_bytes())
    (nas / "link.jpg").symlink_to("own.jpg")
    owner = service.people.add()
    library = service.run("library", "add", owner.email, str(nas)).stdout.strip()
    assert service.run("library", "scan", library).returncode == 0
    (nas / "link.jpg").unlink()
    (nas / "link.jpg").symlink_to(elsewhere)
    with service.client(owner) as client:
        items = client.get("/api/assets", params={"library": library}).json()["items"]
    asset = {item["originalFileName"]: item["id"] for item in items}

    with Worker(service, tmp_path / "worker"):
        wait_until(service, asset["own.jpg"], TaskState.DONE)
        eventually(lambda: task_of(service, asset["link.jpg"]).error is not None, "the link is refused", within=60)

    assert files_of(service, asset["link.jpg"]) == {}
    assert task_of(service, asset["link.jpg"]).state is not TaskState.DONE


def test_a_worker_that_is_stopped_gives_back_what_it_works_on_and_the_next_goes_on(
    start_service: StartService, stack: Engine, tmp_path: Path
) -> None:
    service = start_service(stack)
    with service.client(service.people.add()) as client:
        film = uploaded(client, make_long_video(tmp_path), "film.mp4")
    with Worker(service, tmp_path / "worker") as worker:
        eventually(lambda: set(files_of(service, film)) == PICTURES, "the poster is there", within=60)
        assert task_of(service, film).state is TaskState.RUNNING

        began = time.monotonic()
        assert worker.stop() == 0

        assert time.monotonic() - began < STOP_SECONDS
        assert worker.leftovers() == []
    given_back = task_of(service, film)
    assert (given_back.state, given_back.attempts, given_back.deaths) == (TaskState.PENDING, 0, 0)
    assert_consistent(service.stack)

    with Worker(service, tmp_path / "next"):
        eventually(lambda: task_of(service, film).state is TaskState.RUNNING, "somebody goes on", within=60)
        assert task_of(service, film).attempts == 1


@pytest.mark.parametrize("worker", [False, True], ids=["alone", "beside a working service"])
def test_everything_is_made_again(start_service: StartService, worker: bool) -> None:
    service = start_service("local", program=WORKING if worker else COMMAND)
    photos = some_photos(service, 3)
    with service.client(service.people.add()) as client:
        broken = uploaded(client, fresh_bytes(2000), "broken.jpg")

    first = service.run("process")
    assert first.returncode == 0, first.stderr
    if worker:
        ended = (TaskState.DONE, TaskState.FAILED)
        eventually(
            lambda: all(task_of(service, asset).state in ended for asset in (*photos, broken)),
            "the service is done with them",
            within=60,
        )
    before = {photo: files_of(service, photo) for photo in photos}
    second = service.run("process", "--all", "--kind", "image")

    assert second.returncode == 0, second.stderr
    assert "requested 4" in second.stdout
    assert "processed 4 of 4" in second.stdout
    assert "1 have failed" in second.stdout
    for photo in photos:
        after = files_of(service, photo)
        assert set(after) == PICTURES
        assert not set(after.values()) & set(before[photo].values())
    assert task_of(service, broken).state is TaskState.FAILED
    assert service.run("process", "--all", "--kind", "video").stdout == "requested 0\n0 requested\n"


def test_what_is_missing_is_left_to_workers(start_service: StartService, tmp_path: Path) -> None:
    service = start_service("s3")
    (photo,) = some_photos(service, 1)
    service.people.call(forget_tasks)

    asked = service.run("process", "--missing", "--no-wait")

    assert (asked.returncode, asked.stdout) == (0, "requested 1\n1 requested\n")
    with Worker(service, tmp_path / "worker"):
        wait_until(service, photo, TaskState.DONE)
    assert service.run("process", "--missing").stdout == "requested 0\n0 requested\n"
    assert service.run("process", "--missing", "--all").returncode == 2


async def forget_tasks(catalog: Catalog) -> None:
    """Delete all tasks, as for assets that are older than the tasks table."""
    async with catalog.database.write() as connection:
        await connection.execute(delete(tables.task))


def test_people_see_a_bar(start_service: StartService) -> None:
    service = start_service("local")
    some_photos(service, 2)
    shown, screen = pty.openpty()
    command = [sys.executable, "-m", "app.cli", "process", "--all"]
    environment = {**service.environment, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=service.stack.folder, env=environment, stdout=screen) as process:
        os.close(screen)
        output = b""
        with suppress(OSError):  # which is how a terminal's end shows
            while chunk := os.read(shown, 65536):
                output += chunk
        assert process.wait(COMMAND_SECONDS) == 0
    os.close(shown)
    assert "━" in output.decode()
    assert "2/2" in output.decode()
