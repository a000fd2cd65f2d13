"""The sandbox ends every process and its descendants in time, and limits output, files and network."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from app.media.errors import WorkerCrashed
from app.media.sandbox.messages import ExitKind
from app.media.sandbox.sandbox import Sandbox
from tests.media.sandbox_scripts import (
    ESCAPING,
    FAMILY,
    LIMITS,
    find_newest_fork_server,
    processes_in,
    script_request,
    wait_until,
)


async def test_what_a_program_says_comes_back(sandbox: Sandbox, folder: Path) -> None:
    result = await sandbox.run(script_request("import sys; print('yes'); sys.stderr.write('but'); sys.exit(3)", folder))
    assert (result.exit_kind, result.status, result.output, result.errors) == (ExitKind.EXITED, 3, "yes\n", "but")


async def test_time_is_limited_for_all_that_was_started(sandbox: Sandbox, folder: Path) -> None:
    result = await sandbox.run(script_request(ESCAPING, folder, limits=replace(LIMITS, seconds=2)))
    assert (folder / "ready").exists()
    assert result.exit_kind is ExitKind.TIMED_OUT
    assert processes_in(folder) == set()


async def test_nothing_survives_a_program_that_ends(sandbox: Sandbox, folder: Path) -> None:
    text = ESCAPING.replace('open("ready", "w").close()\n    time.sleep(600)', 'print("done")')
    result = await sandbox.run(script_request(text, folder))
    assert (result.exit_kind, result.output) == (ExitKind.EXITED, "done\n")
    assert processes_in(folder) == set()


async def test_cancelling_ends_all_that_was_started(sandbox: Sandbox, folder: Path) -> None:
    working = asyncio.create_task(sandbox.run(script_request(ESCAPING, folder)))
    await wait_until(lambda: (folder / "ready").exists() and len(processes_in(folder)) == FAMILY)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert processes_in(folder) == set()


async def test_cancelling_twice_still_waits_for_the_end(sandbox: Sandbox, folder: Path) -> None:
    working = asyncio.create_task(sandbox.run(script_request(ESCAPING, folder)))
    await wait_until((folder / "ready").exists)
    working.cancel()
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert processes_in(folder) == set()


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
async def test_a_killed_process_is_a_crash(sandbox: Sandbox, folder: Path, victim: str) -> None:
    """If the supervisor is killed, the fork server kills its worker and descendants."""
    working = asyncio.create_task(sandbox.run(script_request(ESCAPING.replace("600", "601"), folder)))
    await wait_until(lambda: len(processes_in(folder)) == FAMILY)
    worker = _first_of(folder)
    target = worker if victim == "worker" else worker.parent()
    assert target is not None
    target.kill()
    if victim == "worker":
        result = await working
        assert (result.exit_kind, result.status) == (ExitKind.KILLED, signal.SIGKILL)
    else:
        with pytest.raises(WorkerCrashed):
            await working
    await wait_until(lambda: processes_in(folder) == set())


def _first_of(folder: Path) -> psutil.Process:
    """The worker: the first process in the folder, because its supervisor has another working folder."""
    family = processes_in(folder)
    processes = [psutil.Process(pid) for pid in family]
    return next(process for process in processes if process.ppid() not in family and len(process.children()) > 1)


async def test_a_supervisor_that_is_stopped_is_killed(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.media.sandbox.sandbox._END_SECONDS", 0.5)
    working = asyncio.create_task(sandbox.run(script_request(ESCAPING, folder)))
    await wait_until(lambda: len(processes_in(folder)) == FAMILY)
    supervisor = _first_of(folder).parent()
    assert supervisor is not None
    supervisor.suspend()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await wait_until(lambda: processes_in(folder) == set())


async def test_memory_is_limited(sandbox: Sandbox, folder: Path) -> None:
    result = await sandbox.run(script_request("held = []\nwhile True: held.append(bytearray(16 << 20))", folder))
    assert result.status != 0
    assert "MemoryError" in result.errors


async def test_processor_time_is_limited(sandbox: Sandbox, folder: Path) -> None:
    result = await sandbox.run(script_request("while True: pass", folder, limits=replace(LIMITS, cpu_seconds=1)))
    assert (result.exit_kind, result.status) == (ExitKind.KILLED, signal.SIGXCPU)


async def test_the_disk_is_not_filled(sandbox: Sandbox, folder: Path) -> None:
    text = """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with open("large", "wb") as file:
            while True: file.write(bytes(1 << 20))
    """
    result = await sandbox.run(script_request(text, folder))
    assert (result.exit_kind, result.status) == (ExitKind.KILLED, signal.SIGXFSZ)
    assert (folder / "large").stat().st_size <= LIMITS.file_size


async def test_what_it_says_is_limited(sandbox: Sandbox, folder: Path) -> None:
    result = await sandbox.run(script_request("while True: print('x' * 100000)", folder))
    assert result.exit_kind is ExitKind.OUTPUT_TOO_LARGE
    assert len(result.output) <= LIMITS.output + 1


async def test_of_its_errors_the_end_is_kept(sandbox: Sandbox, folder: Path) -> None:
    text = "import sys\nfor _ in range(300): sys.stderr.write('x' * 10000)\nsys.stderr.write('the end')"
    result = await sandbox.run(script_request(text, folder))
    assert result.exit_kind is ExitKind.EXITED
    assert len(result.errors) <= 16 * 1024
    assert result.errors.endswith("the end")


async def test_it_writes_nowhere_else_and_reads_nothing_else(sandbox: Sandbox, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("secret")
    text = """
        import sys
        for name, mode in ((sys.argv[1], "r"), (sys.argv[1] + "-2", "w"), ("/etc/passwd", "r"), ("/proc/self/environ", "r")):
            try: open(name, mode)
            except PermissionError: print("no", end=" ")
        with open("mine", "w") as mine: mine.write("yes")
    """
    result = await sandbox.run(script_request(text, folder, str(secret)))
    assert result.output == "no no no no "
    assert (folder / "mine").read_text() == "yes"


async def test_it_has_no_network(sandbox: Sandbox, folder: Path) -> None:
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        text = "import socket, sys\nsocket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
        result = await sandbox.run(script_request(text, folder, str(port)))
    assert result.status == 1
    assert "unreachable" in result.errors


async def test_nothing_of_the_environment_reaches_it(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "not for anybody")
    async with Sandbox().running() as fresh:
        result = await fresh.run(script_request("import os; print(dict(os.environ))", folder))
        ours = psutil.Process().children()
        environments = [process.environ() for process in ours if "fork_server" in " ".join(process.cmdline())]
    assert "not for anybody" not in result.output
    assert environments
    assert all("S3_SECRET_ACCESS_KEY" not in environment for environment in environments)


async def test_a_fork_server_that_died_is_replaced(folder: Path) -> None:
    async with Sandbox().running() as sandbox:
        work = script_request("print('again')", folder)
        assert (await sandbox.run(work)).output == "again\n"
        kept = asyncio.create_task(
            sandbox.run(script_request("import time; open('ready', 'w').close(); time.sleep(1); print('kept')", folder))
        )
        await wait_until((folder / "ready").exists)
        find_newest_fork_server().kill()
        assert (await sandbox.run(work)).output == "again\n"
        assert (await kept).output == "kept\n"


SERVICE = """
    import asyncio, sys
    from pathlib import Path
    from app.media.sandbox.sandbox import Sandbox
    from tests.media.sandbox_scripts import ESCAPING, script_request

    async def main():
        async with Sandbox().running() as sandbox:
            await asyncio.gather(*(sandbox.run(script_request(ESCAPING, Path(name))) for name in sys.argv[1:]))

    asyncio.run(main())
"""


async def test_nothing_outlives_a_service_that_is_killed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(SERVICE), *map(str, folders)]
    service = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={"PATH": os.defpath, "PYTHONPATH": "."})
    try:
        await wait_until(lambda: all(len(processes_in(folder)) == FAMILY for folder in folders))
        family = psutil.Process(service.pid).children(recursive=True)
    finally:
        service.kill()
        service.wait()
    await wait_until(lambda: not any(processes_in(folder) for folder in folders))
    await wait_until(
        lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
    )


async def test_many_at_once(sandbox: Sandbox, folder: Path) -> None:
    result = await asyncio.gather(*(sandbox.run(script_request(f"print({number})", folder)) for number in range(40)))
    assert [one.output for one in result] == [f"{number}\n" for number in range(40)]
