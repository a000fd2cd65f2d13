"""Measures files that nginx sends for mediavault (`MEDIAVAULT_OFFLOAD`), against the same nginx passing on mediavault's bytes, and nginx alone.

nginx has the files of `docs/proxies.md`. Its time and that of mediavault behind it count together.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bench import contestants, load, rows
from bench.contestants import Contestant
from bench.processes import Cores, ServerProcess
from tests.real.front_server import SETTINGS, adapt_offloading_servers, read_blocks

MEBIBYTE = 1024**2
SMALL_BYTES = 20 * 1024
SALTED_BYTES = SMALL_BYTES + 16
"""The client makes each upload another file by bytes of its own."""
PASSED_ON = "nginx passing on"
RANGES_ROW, SMALL_ROW, WHOLE_ROW = "64 KiB ranges by nginx", "files of 20 KiB by nginx", "whole file by nginx"


ALONE = "server { listen 443 ssl; root /; }"


class ServerChain(ServerProcess):
    """A proxy and the server behind it, which is measured with it."""

    def __init__(self, front: ServerProcess, behind: ServerProcess) -> None:
        super().__init__(front.process, front.port)
        self._behind = behind

    def list_processes(self) -> list[psutil.Process]:
        return [*super().list_processes(), *self._behind.list_processes()]


def measure_front_server(folder: Path, options: argparse.Namespace, cores: Cores) -> list[rows.ResultRow]:
    """Ranges of a large file, small files whole, and the large file whole."""
    place = folder / "front-server"
    place.mkdir()
    media = place / "data" / "media"
    small, large = place / "small", place / "large"
    small.write_bytes(os.urandom(SMALL_BYTES))
    with large.open("wb") as file:
        for _ in range(options.mebibytes):
            file.write(os.urandom(MEBIBYTE))
    settings = {name: value for name, value in SETTINGS.items() if name != "MEDIAVAULT_OFFLOAD_MINIMUM"}
    with ExitStack() as stack:
        service = stack.enter_context(contestants.mediavault(place, cores, settings))
        stored = {file: _upload(service, file, media, cores) for file in (large, small)}
        large.unlink()
        offloading = adapt_offloading_servers(media, "127.0.0.1:9", "127.0.0.1:9")
        fronts = [
            (service.name, stack.enter_context(_nginx_before(place / "sends", offloading, service.server, cores))),
            (
                PASSED_ON,
                stack.enter_context(_nginx_before(place / "passes", read_blocks("nginx")[0], service.server, cores)),
            ),
        ]
        alone = stack.enter_context(contestants.run_nginx(place / "alone", ALONE, cores))

        def list_readers(file: Path) -> list[Contestant]:
            path, stored_file = stored[file]
            readers = [Contestant(name, server, path, service.headers) for name, server in fronts]
            return [*readers, Contestant("nginx", alone, f"/{stored_file.relative_to('/')}", {})]

        size, seconds, rounds = stored[large][1].stat().st_size, options.seconds, options.rounds
        return [
            rows.measure_ranges(RANGES_ROW, list_readers(large), size, seconds, rounds, cores),
            rows.measure_small_files(SMALL_ROW, list_readers(small), SALTED_BYTES, seconds, rounds, cores),
            rows.measure_whole_file(WHOLE_ROW, list_readers(large), size, options.times, rounds, cores),
        ]


def _upload(service: Contestant, file: Path, media: Path, cores: Cores) -> tuple[str, Path]:
    """The path of the original in the API, and the stored file."""
    answer = load.upload(service.server.port, service.path, file, headers=service.headers, cores=cores)
    stored = max((media / "upload").rglob("*.mp4"), key=lambda path: path.stat().st_mtime)
    return f"{service.path}/{answer['id']}/original", stored


@contextmanager
def _nginx_before(folder: Path, servers: str, service: ServerProcess, cores: Cores) -> Iterator[ServerChain]:
    with contestants.run_nginx(
        folder, servers.replace("server 127.0.0.1:2283", f"server 127.0.0.1:{service.port}"), cores
    ) as front:
        yield ServerChain(front, service)
