"""Preview, thumbnail and thumbhash of large photos, beside sharp: how long it takes, and how close it is to a slow, exact filter."""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.media.sandbox.fork_server import NICENESS
from bench.contestants import get_cache_folder, install_npm_modules
from bench.processes import Cores, ServerProcess, free_port, run_server
from bench.rows import ResultRow, Sample, measure_rounds

SHARP_VERSION = "0.35.5"
THUMBHASH_VERSION = "0.1.1"
BACKGROUNDS = "mate-backgrounds"
"""Debian's package: photos, most of them of several million pixels."""

_LARGE_ENOUGH = 4_000_000
_GENERATED = ((4032, 3024, 92), (3024, 4032, 85), (6000, 4000, 92), (8000, 6000, 88))
"""Width, height and JPEG quality, as phones and cameras write them."""

_ANSWER_SECONDS = 120
_SETTLE_SECONDS = 0.05
"""Until a child that has answered is gone, and counted."""

_TICK = 0.01
"""Seconds: how exactly the kernel tells it."""


@dataclass(frozen=True, slots=True)
class PhotoWorker:
    """Somebody who processes photos on a core of their own; `folder` is where the last one's results are."""

    name: str
    server: ServerProcess
    folder: Path
    log: Path

    def process(self, photo: Path) -> tuple[float, float]:
        """Seconds of the clock, as the worker itself counts them, and of the processor, those of its ended children among them."""
        before = self.server.cpu_seconds_with_ended()
        with socket.create_connection(("127.0.0.1", self.server.port), _ANSWER_SECONDS) as connection:
            connection.sendall(f"{photo}\t{self.folder}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile() as answer:
                said = answer.readline()
        if not said:
            raise SystemExit(f"{self.name} failed on {photo.name}:\n{self.log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(_SETTLE_SECONDS)
        return float(said), max(self.server.cpu_seconds_with_ended() - before, _TICK)


def measure_derivatives(folder: Path, rounds: int, cores: Cores) -> list[ResultRow]:
    """The figure of a round is the geometric mean over all photos."""
    photos = build_corpus(folder)
    exact = {photo: (_resample_exactly(photo, 1440), _resample_exactly(photo, 250)) for photo in photos}
    row = ResultRow("photos", "cpu_seconds")
    with ExitStack() as stack:
        workers = [stack.enter_context(_run_mediavault(folder, cores)), stack.enter_context(_run_sharp(folder, cores))]

        distances: dict[str, Sample] = {}

        def once(worker: PhotoWorker) -> Sample:
            measured: list[tuple[float, float]] = []
            preview: list[float] = []
            thumbnail: list[float] = []
            for photo in photos:
                measured.append(worker.process(photo))
                if worker.name not in distances:  # they are the same in every round
                    preview.append(_measure_distance(worker.folder / "preview.jpg", exact[photo][0]))
                    thumbnail.append(_measure_distance(worker.folder / "thumbnail.webp", exact[photo][1]))
            if worker.name not in distances:
                found = {"preview_distance": statistics.mean(preview), "thumbnail_distance": statistics.mean(thumbnail)}
                distances[worker.name] = found
            seconds, cpu_seconds = (statistics.geometric_mean(each) for each in zip(*measured, strict=True))
            return {"cpu_seconds": cpu_seconds, "seconds": seconds, "photos": len(photos), **distances[worker.name]}

        return [measure_rounds(row, workers, rounds, once)]


def build_corpus(folder: Path) -> list[Path]:
    """Debian's backgrounds that are large enough, and generated ones: the work of a camera is what sharp and we read fastest."""
    place = folder / "corpus"
    place.mkdir()
    for number, (width, height, quality) in enumerate(_GENERATED):
        _generate_photo(width, height, number).save(place / f"generated-{number}.jpg", quality=quality)
    for source in sorted(_download_backgrounds().rglob("*")):
        if source.suffix not in (".jpg", ".png") or source.is_symlink():
            continue
        with Image.open(source) as image:
            if image.width * image.height >= _LARGE_ENOUGH:
                shutil.copy(source, place)
    return sorted(place.iterdir())


def _download_backgrounds() -> Path:
    unpacked = get_cache_folder() / BACKGROUNDS
    if not unpacked.is_dir():
        downloads = get_cache_folder() / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", BACKGROUNDS], cwd=downloads, check=True)
        package = next(downloads.glob(f"{BACKGROUNDS}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    return unpacked


def _generate_photo(width: int, height: int, seed: int) -> Image.Image:
    """Clouds of several sizes and the noise of a sensor."""
    random = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((6, 90), (40, 50), (250, 30)):
        coarse = random.random((cells * height // width + 1, cells, 3), np.float32)
        channels = [
            Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            for channel in range(3)
        ]
        whole += weight * np.stack([np.asarray(channel) for channel in channels], axis=2)
    whole += random.normal(0, 3, whole.shape).astype(np.float32)
    return Image.fromarray(np.clip(whole + 20, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))


def _resample_exactly(photo: Path, edge: int) -> NDArray[np.float32]:
    """How light each pixel is when the whole photo is resampled with Lanczos in floating point."""
    with Image.open(photo) as image:
        scale = min(1, edge / min(image.size))
        size = (round(image.width * scale), round(image.height * scale))
        light = image.convert("RGB").convert("L").convert("F")
        return np.asarray(light.resize(size, Image.Resampling.LANCZOS))


def _measure_distance(made: Path, exact: NDArray[np.float32]) -> float:
    """1 - SSIM (Wang et al. 2004, uniform windows of 8 x 8); a size that differs by a pixel is compared where both have pixels."""
    with Image.open(made) as image:
        have = np.asarray(image.convert("L"), np.float32)
    height, width = (min(pair) for pair in zip(have.shape, exact.shape, strict=True))
    if max(abs(a - b) for a, b in zip(have.shape, exact.shape, strict=True)) > 1:
        raise SystemExit(f"{made} is {have.shape}, not {exact.shape}")
    a, b = have[:height, :width].astype(np.float64), exact[:height, :width].astype(np.float64)
    mean_a, mean_b = _average_windows(a), _average_windows(b)
    var_a, var_b, both = (
        _average_windows(a * a) - mean_a**2,
        _average_windows(b * b) - mean_b**2,
        _average_windows(a * b) - mean_a * mean_b,
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return 1 - float(similar.mean())


def _average_windows(values: NDArray[np.float64], edge: int = 8) -> NDArray[np.float64]:
    """The mean of every window."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[edge:, edge:] - sums[:-edge, edge:] - sums[edge:, :-edge] + sums[:-edge, :-edge]) / edge**2


@contextmanager
def _run_mediavault(folder: Path, cores: Cores) -> Iterator[PhotoWorker]:
    """With its sandbox: a process for every photo."""
    command = [sys.executable, "-m", "bench.peers.processor"]
    with _run_worker("mediavault", command, {}, folder, cores) as worker:
        yield worker


@contextmanager
def _run_sharp(folder: Path, cores: Cores) -> Iterator[PhotoWorker]:
    """On one thread, with the priority that our workers have."""
    modules = install_npm_modules("sharp", SHARP_VERSION)
    hashing = install_npm_modules("thumbhash", THUMBHASH_VERSION) / "thumbhash" / "thumbhash.js"
    environment = {"NODE_PATH": str(modules), "BENCH_THUMBHASH": str(hashing)}
    command = ["nice", "-n", str(NICENESS), "node", str(Path(__file__).parent / "peers" / "sharp.cjs")]
    with _run_worker("sharp", command, environment, folder, cores) as worker:
        yield worker


@contextmanager
def _run_worker(
    name: str, command: list[str], environment: dict[str, str], folder: Path, cores: Cores
) -> Iterator[PhotoWorker]:
    results = folder / f"{name}-results"
    results.mkdir()
    port, log = free_port(), folder / f"{name}-photos.log"
    surroundings = {"BENCH_PORT": str(port), **environment}
    with run_server(command, port=port, cores=cores, environment=surroundings, folder=folder, log=log) as server:
        yield PhotoWorker(name, server, results, log)
