"""`mediavault doctor` as an operator runs it: exit status, table and JSON, and that it changes nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.doctor import diagnosis
from tests.real.proxy import Proxy, Recorded
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.stacks import Engine, Stack, Stacks

PATIENCE = 60.0


@pytest.fixture
def stack(stacks: Stacks, tmp_path: Path) -> Stack:
    made = stacks.create("local", tmp_path / "stack", tables=False)
    made.folder.mkdir()
    return made


def run_doctor(service: Service) -> tuple[int, dict[tuple[str, str], dict[str, Any]]]:
    """Runs the command. Returns its exit status, and the findings by part and check."""
    done = service.run("doctor", "--json", within=PATIENCE)
    told = json.loads(done.stdout)
    assert told["failed"] is (done.returncode == 1), done.stderr
    return done.returncode, {(found["area"], found["check"]): found for found in told["findings"]}


def select_problems(findings: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    return {" ".join(key): f"{it['outcome']}: {it['detail']}" for key, it in findings.items() if it["outcome"] != "ok"}


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, except those that SQLite creates when a catalogue is opened."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "catalogue.db" not in path.name and path.suffix not in (".log", ".out")
    }


def test_a_new_set_up_is_told_what_the_first_start_makes_and_nothing_is_made(stack: Stack) -> None:
    status, findings = run_doctor(Service(stack))
    assert status == 0
    assert [" ".join(key) for key, found in findings.items() if found["hint"]] == [
        "database file", "media location folder", "staging folder",
    ]  # fmt: skip
    assert list(stack.folder.iterdir()) == []


def test_a_local_library_in_use(stack: Stack) -> None:
    with Service(stack) as service:
        before = files_below(stack.folder)
        rows = read_rows(stack)
        status, findings = run_doctor(service)
        assert (status, select_problems(findings)) == (0, {})
        assert findings["media location", "markers"]["detail"] == "6 of 6 are ours"
        assert "ms per query" in findings["database", "latency"]["detail"]
        assert files_below(stack.folder) == before
        assert read_rows(stack) == rows

        (stack.media / "thumbs" / ".immich").unlink()
        done = service.run("doctor")
        assert done.returncode == 1
        failed = next(line for line in done.stdout.splitlines() if " failed " in line)
        assert failed.split()[:5] == ["media", "location", "marker", "of", "thumbs"]


def read_rows(stack: Stack) -> list[str]:
    """All rows of the catalogue, except those that the service's readiness check writes."""
    with closing(sqlite3.connect(stack.db_url.removeprefix("sqlite:///"))) as catalogue:
        return [line for line in catalogue.iterdump() if "write-probe" not in line]


def test_postgresql_and_a_store_with_rights_below_its_prefix_only(stacks: Stacks, tmp_path: Path) -> None:
    engine: Engine = "s3"
    made = stacks.create(engine, tmp_path / "stack", tables=False)
    settings = {"S3_DELIVERY": "redirect", "MEDIAVAULT_PUBLIC_URL": "https://photos.example"}
    with Service(made, settings=settings) as service:
        stored = made.objects()
        status, findings = run_doctor(service)
        assert status == 0, select_problems(findings)
        assert select_problems(findings).keys() <= {"store encryption", "store lifecycle", "store CORS", "staging disk"}
        assert findings["database", "connection"]["detail"] == "PostgreSQL"
        assert findings["store", "markers"]["outcome"] == "ok"
        for call in ("put", "head", "get by signed link", "ranges", "clock", "conditional put", "multipart", "copy",
                     "abort, list uploads", "list, paging, order", "delete", "batch delete", "direct links"):  # fmt: skip
            assert findings["store", call]["outcome"] == "ok", call
        assert made.objects() == stored
        assert made.leftovers() == []
        shown = json.dumps([*map(str, findings), *findings.values()])
        assert made.bucket
        assert made.bucket.identity.secret_key not in shown
        assert made.bucket.identity.access_key not in shown


def test_a_front_server_that_may_not_read_the_files_is_a_warning(stack: Stack) -> None:
    """Which user runs it is not known: a folder for one user only is worth a look."""
    stack.media.mkdir(mode=0o700)
    secret = record_secret("a1b2c3d4e5f6a7b8c9d0e1f2")
    (stack.folder / "secret").write_text(f"{secret}\n", encoding="utf-8")
    settings = {"MEDIAVAULT_OFFLOAD": "x-accel", "MEDIAVAULT_OFFLOAD_SECRET_FILE": "secret"}
    service = Service(stack, settings=settings)
    _, findings = run_doctor(service)
    assert findings["settings", "settings"]["detail"].startswith("MEDIAVAULT_TRUSTED_PROXIES is not set")

    service = Service(stack, settings=settings | {"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1"})
    _, findings = run_doctor(service)
    assert findings["settings", "front server"]["detail"] == "x-accel for 127.0.0.1, from 16.0 KiB on"
    assert findings["settings", "front server's access"]["outcome"] == "warning"
    stack.media.chmod(0o750)
    assert run_doctor(service)[1]["settings", "front server's access"]["outcome"] == "ok"
    (stack.folder / "secret").unlink()
    _, findings = run_doctor(service)
    assert findings["settings", "settings"]["detail"].startswith("MEDIAVAULT_OFFLOAD_SECRET_FILE: cannot read 'secret'")


def test_a_wrong_setting_is_a_finding_too(stack: Stack) -> None:
    status, findings = run_doctor(Service(stack, settings={"IMMICH_STORAGE_ENGINE": "s3"}))
    assert status == 1
    assert [found["detail"] for found in findings.values()] == ["S3_BUCKET is not set, but IMMICH_STORAGE_ENGINE is s3"]


@pytest.fixture
def proxied_stack(stacks: Stacks, tmp_path: Path) -> Iterator[tuple[Service, Stack, Proxy]]:
    made = stacks.create("s3", tmp_path / "stack", database="sqlite", tables=False)
    made.folder.mkdir()
    assert made.bucket
    with Proxy(made.bucket.server.port) as proxy:
        yield Service(made, settings={"S3_ENDPOINT": proxy.endpoint}), made, proxy


def test_an_encoder_that_does_not_work_here(stack: Stack) -> None:
    settings = {"MEDIAVAULT_TRANSCODE_ENCODER": "vaapi", "MEDIAVAULT_TRANSCODE_DEVICE": str(stack.folder / "absent")}
    status, findings = run_doctor(Service(stack, settings=settings))
    found = findings["programs", "hardware encoder"]
    assert (status, found["outcome"]) == (0, "warning")
    assert "h264_vaapi does not work, libx264 is used" in found["detail"]


def test_an_interrupted_one_leaves_nothing_in_the_store(proxied_stack: tuple[Service, Stack, Proxy]) -> None:
    """Ctrl-C in the middle of a multipart upload."""
    service, made, proxy = proxied_stack
    processes: list[subprocess.Popen[str]] = []

    def interrupt(request: Recorded) -> None:
        if request.method == "PUT" and request.query.get("partNumber") == "1":
            proxy.on_request = None
            processes[0].send_signal(signal.SIGINT)

    proxy.on_request = interrupt
    command = [sys.executable, "-m", "app.cli", "doctor"]
    with subprocess.Popen(
        command, cwd=made.folder, env=service.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        processes.append(process)
        printed, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told.splitlines()[-1:]) == (2, ["mediavault: interrupted"]), printed + told
    assert proxy.of("POST", uploads=""), "it had begun"
    assert made.objects() == {}
    assert made.leftovers() == []


def test_no_password_is_shown(stacks: Stacks, tmp_path: Path) -> None:
    made = stacks.create("local", tmp_path / "stack", tables=False)
    made.folder.mkdir()
    password = record_secret("a-password-of-postgresql")
    service = Service(made, settings={"DB_URL": f"postgresql://somebody:{password}@127.0.0.1:9/photos"})
    done = service.run("doctor", within=PATIENCE)
    assert done.returncode == 1
    assert "DB_URL: is the server running" in " ".join(done.stdout.split())
    assert password not in done.stdout + done.stderr


def test_what_no_check_foresaw_is_a_diagnosis_that_was_not_carried_out(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's status for an exception is 1, which means a failed check to scripts."""

    def broken(_area: object) -> None:
        raise TypeError("unforeseen")

    for name, value in stack.settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(diagnosis, "check_codecs", broken)
    done = CliRunner().invoke(cli, ["doctor"])
    assert (done.exit_code, "TypeError" in done.stderr) == (2, True), done.output
