"""Cost and robustness of processing: bytes read per asset, hostile files, a full staging disk, memory."""

from __future__ import annotations

import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest
from PIL import Image

from app.formats import FORMATS, MediaKind
from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.media.photo_files import encode_image, encode_jpeg, make_quarters
from tests.media.video_files import make_video
from tests.real.processing import fetch_image, queues, wait_until_idle
from tests.real.proxy import Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import WORKING, Service
from tests.real.stacks import ENGINES, Engine
from tests.real.uploads import assert_next_upload_works, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
ANSWER_SECONDS = 10.0
"""A bound for a busy machine; an idle one answers in milliseconds."""


def test_an_original_in_s3_is_read_once_for_all_that_is_made_of_it(
    seaweedfs: SeaweedFS, start_service: StartService
) -> None:
    photo = encode_jpeg(Image.effect_noise((2000, 1500), 80).convert("RGB"))
    encoded = make_video(".avi", "-c:v", "mpeg4", "-qscale:v", "2", "-c:a", "libmp3lame", seconds=2)
    with Proxy(seaweedfs.port) as proxy:
        service = start_service("s3", settings={"S3_ENDPOINT": proxy.endpoint}, program=WORKING)
        admin = service.people.add(is_admin=True)
        with service.client(admin) as client:
            sizes = {
                uploaded(client, photo, "large.jpg"): len(photo),
                uploaded(client, encoded, "film.avi"): len(encoded),
            }
            found = wait_until_idle(service, admin.key)
            assert not found["thumbnailGeneration"]["failures"] + found["videoConversion"]["failures"]
            originals = {
                client.get(f"/api/assets/{asset_id}").json()["originalPath"]: size for asset_id, size in sizes.items()
            }
            read = dict(proxy.read)
            for asset_id in sizes:
                assert fetch_image(client, asset_id, "preview").width
        for path, size in originals.items():
            assert size <= read[path.removeprefix("s3:/")] <= 1.05 * size
        made = [path for path in read if "/thumbs/" in path or "/encoded-video/" in path]
        assert made == [], "what was made is not read back"
        service.stop()


def hostile_files(secret: Path, address: str, extensions: Sequence[str]) -> dict[str, bytes]:
    """Contents by file name. Some files refer to the file `secret` or to a listener at `address`; files of noise have all `extensions`."""
    whole = encode_jpeg(Image.effect_noise((600, 400), 60).convert("RGB"), quality=90)
    clip = make_video(".mp4")
    files = {f"cut-{tenth}.jpg": whole[: max(1, len(whole) * tenth // 10)] for tenth in range(10)}
    files |= {f"cut-{tenth}.mp4": clip[: max(1, len(clip) * tenth // 10)] for tenth in range(0, 10, 3)}
    files["pixels.png"] = png(60_000, 60_000, 2, zlib.compress(bytes(1000)))
    rows = zlib.compressobj(9)
    files["bomb.png"] = png(
        20_000, 80_000, 0, b"".join(rows.compress(bytes(250_100)) for _ in range(800)) + rows.flush(), 1
    )
    frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    files["frames.gif"] = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 100_000 + b";"
    files["circle.tif"] = circle()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    noise = random.Random(seed)
    files |= {f"noise{extension}": noise.randbytes(20_000) for extension in extensions}
    for number, target in enumerate((str(secret), f"http://{address}/secret.mp4")):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
        concat = f"ffconcat version 1.0\nfile '{target}'\nduration 10\n"
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{target}"/></svg>'
        for name, text in (("m3u8", playlist), ("ffconcat", concat), ("svg", drawing)):
            files |= {f"{name}-{number}.mp4": text.encode(), f"{name}-{number}.jpg": f"{text}\n".encode()}
    return files


def png(width: int, height: int, colour: int, data: bytes, depth: int = 8) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def circle() -> bytes:
    """A TIFF whose two directories each name the other as the next."""
    data = bytearray(encode_image(make_quarters(64, 48), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    second = bytes(data[first : first + 2 + 12 * count]) + struct.pack("<I", first)
    struct.pack_into("<I", data, first + 2 + 12 * count, len(data))
    return bytes(data) + second


class Listener:
    """A listening port of a loopback address that nothing else uses: clients of other tests may still call servers that had the port before.
    `received` has the first bytes of each connection."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.2", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self.received: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                with self._socket.accept()[0] as connection:
                    connection.settimeout(5)
                    self.received.append(b"")
                    self.received[-1] = connection.recv(200)

    def close(self) -> None:
        self._socket.close()


class ResponseMonitor:
    """Sends requests all the time from a thread; records the longest response time, and the memory of the service's process tree."""

    def __init__(self, service: Service) -> None:
        self._url = service.url
        self.process = service.process
        self.slowest = 0.0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=ANSWER_SECONDS, trust_env=False) as client:
            while not self._stop.wait(0.05):
                began = time.monotonic()
                try:
                    answer = client.get("/api/server/ping")
                    if answer.status_code != 200:
                        self.failures.append(answer.text)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.slowest = max(self.slowest, time.monotonic() - began)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


ACCEPTED = [kind.extension for kind in FORMATS if kind.kind is not MediaKind.SIDECAR]


@pytest.mark.parametrize(("engine", "extensions"), [("local", ACCEPTED), ("s3", (".heic", ".mkv"))], ids=ENGINES)
def test_hostile_files_end_with_a_reason_and_the_service_goes_on(
    engine: Engine, extensions: Sequence[str], start_service: StartService, listener: Listener, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(make_video(".mp4"))
    accessed = secret.stat().st_atime_ns
    service = start_service(engine, program=WORKING)
    admin = service.people.add(is_admin=True)
    with service.client(admin) as client:
        uploaded(client, encode_jpeg(make_quarters()), "first.jpg")
        wait_until_idle(service, admin.key)
        process = service.process
        before, children = family_memory(process), len(process.children(recursive=True))
        with ResponseMonitor(service) as watch:
            files = hostile_files(secret, listener.address, extensions)
            ids = {uploaded(client, data, name): name for name, data in files.items()}
            found = wait_until_idle(service, admin.key, within=240)
        assert watch.failures == []
        given_up = {
            failure["assetId"]: failure["reason"]
            for queue in ("thumbnailGeneration", "videoConversion")
            for failure in found[queue]["failures"]
        }
        assert {ids[asset_id] for asset_id in ids if asset_id not in given_up} == set()
        for asset_id, name in ids.items():
            asset = client.get(f"/api/assets/{asset_id}").json()
            assert asset["processingError"] == given_up[asset_id], name
            assert asset["processingError"]
            assert str(tmp_path) not in asset["processingError"]
            missing = client.get(f"/api/assets/{asset_id}/thumbnail")
            assert missing.status_code == 404
            assert missing.json()["detail"] == f"It could not be made: {given_up[asset_id]}"
        assert listener.received == []
        assert secret.stat().st_atime_ns == accessed
        assert len(process.children(recursive=True)) <= children, "nothing of them still runs"
        assert family_memory(process) - before < 64 * MEBIBYTE
        good = uploaded(client, encode_jpeg(make_quarters(200, 300)), "last.jpg")
        wait_until_idle(service, admin.key)
        assert fetch_image(client, good, "preview").size == (200, 300)
        assert_next_upload_works(client)
    assert_consistent(service.stack)


def family_memory(process: psutil.Process) -> int:
    """Resident bytes of the service and all its child processes."""
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


@pytest.fixture
def small_staging(tmp_path: Path) -> Iterator[Path]:
    """A staging folder on a file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def test_a_full_staging_disk_puts_the_work_off(small_staging: Path, start_service: StartService) -> None:
    service = start_service("s3", settings={"MEDIAVAULT_STAGING_FOLDER": str(small_staging)}, program=WORKING)
    admin = service.people.add(is_admin=True)
    with service.client(admin) as client:
        photo = encode_jpeg(Image.effect_noise((2400, 1600), 90).convert("RGB"))
        assert len(photo) > 2 * MEBIBYTE
        asset_id = uploaded(client, photo, "large.jpg")
        deadline = time.monotonic() + 60
        while not queues(service, admin.key)["thumbnailGeneration"]["jobCounts"]["delayed"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        missing = client.get(f"/api/assets/{asset_id}/thumbnail")
        assert missing.status_code == 404
        assert int(missing.headers["retry-after"]) > 0
        assert client.get("/readyz").status_code == 200
        assert client.get(f"/api/assets/{asset_id}/original").content == photo
        assert_next_upload_works(client)


def test_a_staging_folder_that_is_lost_turns_the_service_not_ready(start_service: StartService) -> None:
    service = start_service("local")
    folder = service.stack.folder / "data" / "staging"
    with service.client(service.people.add()) as client:
        shutil.rmtree(folder)
        assert_next_upload_works(client)
        folder.write_bytes(b"in its place")
        eventually(lambda: client.get("/readyz").status_code == 503, "it is noticed")
        told = client.get("/readyz").json()
        assert told["message"].startswith("Not ready: staging folder: ")
        assert str(folder) not in str(told)
        folder.unlink()
        eventually(lambda: client.get("/readyz").status_code == 200, "it is made again")
