"""Start-up: the first start's output, and failed starts, which print one line, exit with a status other than 0 and leave nothing open."""

from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from starlette.types import Message

from app import __version__
from app.api.http.application import ApiApplication
from app.api.http.sockets import open_listening_sockets
from app.catalog.errors import CatalogUnavailable
from app.config import SettingsError
from tests.api.start_service import StartService
from tests.real.secrets import record_secret
from tests.real.service import COMMAND, Service, free_port
from tests.real.waiting import eventually

PATIENCE = 60.0


class FailingServices:
    """A stand-in for `open_services` that fails to open or close, and the server's side of the ASGI lifespan."""

    def __init__(self, *, opening: Exception | None = None, closing: Exception | None = None) -> None:
        self._opening = opening
        self._closing = closing
        self.sent: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        if self._opening:
            raise self._opening
        yield SimpleNamespace(tracing=None)
        if self._closing:
            raise self._closing

    async def lifespan(self) -> ApiApplication:
        async def nothing(*_: Any) -> None:
            raise AssertionError("no request was made")

        async def receive() -> Message:
            return {"type": "lifespan"}

        async def send(message: Message) -> None:
            self.sent.append(message["type"])

        front = ApiApplication(nothing, lambda _: None, lambda *_: None, self, SimpleNamespace())
        await front({"type": "lifespan"}, receive, send)
        return front


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CatalogUnavailable("database is locked"), "database is locked"),
        (KeyError("surprise"), "unforeseen KeyError, see the log"),
    ],
)
async def test_whatever_fails_while_opening_ends_the_start(error: Exception, told: str) -> None:
    opening = FailingServices(opening=error)

    front = await opening.lifespan()

    assert opening.sent == ["lifespan.startup.failed"]
    assert front.start_failure == told


async def test_a_failure_while_closing_is_told_to_the_server() -> None:
    opening = FailingServices(closing=OSError("disk gone"))

    await opening.lifespan()

    assert opening.sent == ["lifespan.startup.complete", "lifespan.shutdown.failed"]


def test_a_catalogue_that_fails_after_it_was_opened_ends_the_start(start_service: StartService) -> None:
    service = start_service("local")
    service.stop()
    with closing(sqlite3.connect(service.stack.folder / "catalogue.db")) as catalogue:
        catalogue.execute("DROP TABLE installation")

    assert refusal(service) == "mediavault: DB_URL: no such table: installation\n"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"DB_URL": "sqlite:////proc/nowhere/catalogue.db"}, "DB_URL: cannot use the folder of "),
        ({"DB_URL": "sqlite:////dev"}, "DB_URL: unable to open database file"),
        ({"DB_URL": "postgresql://me:hunter2@localhost:port/photos"}, "DB_URL is no database address"),
        ({"DB_URL": "postgresql://me:hunter2@127.0.0.1:9/photos"}, "DB_URL: connection failed: "),
        ({"IMMICH_MEDIA_LOCATION": "/dev/null"}, "IMMICH_MEDIA_LOCATION: /dev/null: "),
        ({"IMMICH_MEDIA_LOCATION": "/proc/nowhere"}, "IMMICH_MEDIA_LOCATION: /proc/nowhere: "),
        ({"MEDIAVAULT_STAGING_FOLDER": "/dev/null"}, "MEDIAVAULT_STAGING_FOLDER: /dev/null: "),
        ({"MEDIAVAULT_STAGING_FOLDER": "/proc/nowhere"}, "MEDIAVAULT_STAGING_FOLDER: /proc/nowhere: "),
        ({"IMMICH_HOST": "nowhere.invalid"}, "IMMICH_HOST: 'nowhere.invalid': "),
        ({"IMMICH_HOST": "192.0.2.1"}, "IMMICH_HOST: cannot listen on '192.0.2.1': "),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    start_service: StartService, settings: dict[str, str], line: str
) -> None:
    told = refusal(start_service("local", begin=False, settings=settings))

    assert told.startswith(f"mediavault: {line}")
    assert told.count("\n") == 1
    assert "hunter2" not in told


def test_who_cannot_have_the_port_touches_no_data(start_service: StartService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = start_service("local", begin=False, settings={"IMMICH_PORT": str(port)})

        told = refusal(service)

    taker = psutil.Process()
    assert (
        told == f"mediavault: IMMICH_PORT: port {port} of 127.0.0.1 is taken by {taker.name()} (process {taker.pid})\n"
    )
    assert not (service.stack.folder / "catalogue.db").exists()


def test_the_port_is_free_again_at_once(start_service: StartService) -> None:
    """Connections of the previous service in TIME_WAIT do not block the port."""
    service = start_service("local")
    httpx.get(f"{service.url}/livez", headers={"connection": "close"}, trust_env=False)

    service.restart()

    assert httpx.get(f"{service.url}/livez", trust_env=False).status_code == 200


def test_a_second_start_tells_that_the_first_one_runs(start_service: StartService) -> None:
    service = start_service("local")
    settings = {"IMMICH_PORT": str(service.port)}

    told = refusal(start_service("local", begin=False, settings=settings))

    assert f"port {service.port} of 127.0.0.1 is taken by " in told
    assert f"(process {service.process.pid})" in told
    assert told.count("\n") == 1


def test_a_first_start_ends_with_what_a_newcomer_needs(start_service: StartService) -> None:
    service = start_service("local", begin=False)
    service.start()
    eventually(lambda: "Stop:" in service.output, "the introduction is printed")
    folder = service.stack.folder

    assert service.output.splitlines() == [
        f"mediavault {__version__} listens on {service.url}",
        f"API page: {service.url}/docs",
        "Users: none yet. Add one: mediavault user add ADDRESS --admin; then make a key: mediavault key add ADDRESS",
        f"Data: media in {service.settings['IMMICH_MEDIA_LOCATION']}, catalogue in {folder / 'catalogue.db'}",
        f"Stop: Ctrl-C, or SIGTERM to process {service.process.pid}",
    ]
    assert "media folder" not in service.log
    assert "warning" not in service.log


def test_the_key_of_a_first_run_is_shown_once(start_service: StartService) -> None:
    service = start_service("local", begin=False, program=(*COMMAND, "--first-run"))
    service.start()
    eventually(lambda: "Stop:" in service.output, "the introduction is printed")
    key = re.search(r"^API key: (\S+)$", service.output, re.MULTILINE)
    assert key
    assert "User: admin@mediavault.local, made now." in service.output
    headers = {"x-api-key": record_secret(key[1])}
    assert httpx.get(f"{service.url}/api/users/me", headers=headers, trust_env=False).status_code == 200

    again = _restart(service)

    assert "\nUsers: 1\n" in again
    assert "API key" not in again


def test_the_address_that_a_first_run_prints_signs_in_once(start_service: StartService) -> None:
    service = start_service("local", begin=False, program=(*COMMAND, "--first-run"))
    service.start()
    eventually(lambda: "Stop:" in service.output, "the introduction is printed")
    first = _sign_in_token(service, service.output)

    renewed = _sign_in_token(service, _restart(service))  # not used so far
    with service.client() as client:
        assert client.post("/api/auth/sign-in-token", json={"token": first}).status_code == 401
        signed_in = client.post("/api/auth/sign-in-token", json={"token": renewed})
        assert signed_in.status_code == 201
        record_secret(signed_in.json()["accessToken"])
        assert client.get("/api/users/me").json()["isAdmin"] is True
        assert client.post("/api/auth/sign-in-token", json={"token": renewed}).status_code == 401
        assert "#signin=" not in _restart(service)

        browser = {"sec-fetch-site": "same-origin"}
        assert client.post("/api/auth/logout", headers=browser).status_code == 200
        assert "#signin=" in _restart(service)  # the only user would be locked out without the key
        assert service.run("user", "add", "me@example.org").returncode == 0
        assert "#signin=" not in _restart(service)


def _restart(service: Service) -> str:
    """Returns what the new start prints."""
    seen = len(service.output)
    service.restart()
    eventually(lambda: "Stop:" in service.output[seen:], "the introduction is printed again")
    printed = service.output[seen:]
    for token in re.findall("#signin=(.+)", printed):
        record_secret(token)
    return printed


def _sign_in_token(service: Service, printed: str) -> str:
    """The token of the address in the first lines of the output."""
    _, address, *_ = printed.splitlines()
    found = re.fullmatch(rf"{re.escape(service.url)}/#signin=(\w{{64}})", address)
    assert found
    return record_secret(found[1])


def test_the_key_of_a_first_run_is_shown_although_the_start_fails(start_service: StartService) -> None:
    settings = {"MEDIAVAULT_STAGING_FOLDER": "/dev/null"}

    told = refusal(start_service("local", begin=False, settings=settings, program=(*COMMAND, "--first-run")))

    assert re.search(r"^API key: \S+$", told, re.MULTILINE)


def test_a_first_run_names_the_setting_too(start_service: StartService) -> None:
    wrong = {"DB_URL": "sqlite:////proc/nowhere/catalogue.db"}

    told = refusal(start_service("local", begin=False, settings=wrong, program=(*COMMAND, "--first-run")))

    assert (
        told == "mediavault: DB_URL: cannot use the folder of /proc/nowhere/catalogue.db: No such file or directory\n"
    )


def test_both_families_can_have_the_port_and_nobody_twice() -> None:
    port = free_port()
    with ExitStack() as open_sockets:
        for host in ("127.0.0.1", *(["::1"] if _has_ipv6() else [])):
            for one in open_listening_sockets(host, port, 1):
                open_sockets.enter_context(one)
            with pytest.raises(SettingsError, match=f"^IMMICH_PORT: port {port} of {host} is taken by "):
                open_listening_sockets(host, port, 1)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_what_it_creates_is_its_owners_only(start_service: StartService, tmp_path: Path) -> None:
    data = tmp_path / "data"
    places = {"DB_URL": f"sqlite:///{data}/catalogue.db", "IMMICH_MEDIA_LOCATION": str(data / "media")}
    service = start_service("local", begin=False, settings=places)
    service.start()
    service.stop()
    (data / "catalogue.db").unlink()
    added = service.run("user", "add", "me@example.org")

    made = [data, *data.rglob("*")]

    assert added.returncode == 0, added.stderr
    assert {data / "catalogue.db", data / "media" / "upload" / ".immich"} <= set(made)
    assert [path for path in made if path.stat().st_mode & 0o077] == []


def refusal(service: Service) -> str:
    """The whole output of a start that fails."""
    logged, printed = len(service.log), len(service.output)
    status = service.launch().wait(PATIENCE)
    assert status in (2, 3)
    return service.log[logged:] + service.output[printed:]


def test_it_may_open_a_file_for_every_connection(start_service: StartService) -> None:
    service = start_service("local", wrap=("prlimit", "--nofile=1024:"))
    soft, _ = service.process.rlimit(psutil.RLIMIT_NOFILE)
    assert soft >= 2 * 1000
