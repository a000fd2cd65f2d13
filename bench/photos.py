"""Benchmark of derivatives (preview, thumbnail, thumbhash) of large photos against sharp: CPU time, and distance from an exact filter."""

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
"""A Debian package of photos, most of them of several million pixels."""

_LARGE_ENOUGH = 4_000_000
_GENERATED = ((4032, 3024, 92), (3024, 4032, 85), (6000, 4000, 92), (8000, 6000, 88))
"""Width, height and JPEG quality, as of phones and cameras."""

_ANSWER_SECONDS = 120
_SETTLE_SECONDS = 0.05
"""Seconds until a child process that has answered has ended and its CPU time is counted."""

_TICK = 0.01
"""Resolution of the kernel's CPU times in seconds."""


@dataclass(frozen=True, slots=True)
class PhotoWorker:
    """A process that renders photos on a core of its own. `folder` holds the results of the last photo."""

    name: str
    server: ServerProcess
    folder: Path
    log: Path

    def process(self, photo: Path) -> tuple[float, float]:
        """Process a photo; returns wall-clock seconds as measured by the worker, and CPU seconds, ended child processes included."""
        before = self.server.cpu_seconds_with_ended()
        with socket.create_connection(("127.0.0.1", self.server.port), _ANSWER_SECONDS) as connection:
            connection.sendall(f"{photo}\t{self.folder}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile() as answer:
                wall_seconds = answer.readline()
        if not wall_seconds:
            raise SystemExit(f"{self.name} failed on {photo.name}:\n{self.log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(_SETTLE_SECONDS)
        return float(wall_seconds), max(self.server.cpu_seconds_with_ended() - before, _TICK)


def measure_derivatives(folder: Path, rounds: int, cores: Cores) -> list[ResultRow]:
    """The result of a round is the geometric mean over all photos."""
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
                if worker.name not in distances:  # equal in every round
                    preview.append(_measure_distance(worker.folder / "preview.jpg", exact[photo][0]))
                    thumbnail.append(_measure_distance(worker.folder / "thumbnail.webp", exact[photo][1]))
            if worker.name not in distances:
                means = {"preview_distance": statistics.mean(preview), "thumbnail_distance": statistics.mean(thumbnail)}
                distances[worker.name] = means
            seconds, cpu_seconds = (statistics.geometric_mean(each) for each in zip(*measured, strict=True))
            return {"cpu_seconds": cpu_seconds, "seconds": seconds, "photos": len(photos), **distances[worker.name]}

        return [measure_rounds(row, workers, rounds, once)]


def build_corpus(folder: Path) -> list[Path]:
    """Large photos: those of `BACKGROUNDS` with enough pixels, and generated ones in the sizes of phones and cameras."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, (width, height, quality) in enumerate(_GENERATED):
        _generate_photo(width, height, number).save(corpus / f"generated-{number}.jpg", quality=quality)
    for source in sorted(_download_backgrounds().rglob("*")):
        if source.suffix not in (".jpg", ".png") or source.is_symlink():
            continue
        with Image.open(source) as image:
            if image.width * image.height >= _LARGE_ENOUGH:
                shutil.copy(source, corpus)
    return sorted(corpus.iterdir())


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
    """A synthetic photo: clouds of several sizes with sensor noise."""
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
    """Luminance of the photo, resampled as a whole with Lanczos in floating point."""
    with Image.open(photo) as image:
        scale = min(1, edge / min(image.size))
        size = (round(image.width * scale), round(image.height * scale))
        light = image.convert("RGB").convert("L").convert("F")
        return np.asarray(light.resize(size, Image.Resampling.LANCZOS))


def _measure_distance(result: Path, exact: NDArray[np.float32]) -> float:
    """1 - SSIM (Wang et al. 2004, uniform windows of 8 x 8). Sizes may differ by a pixel; then the common area is compared."""
    with Image.open(result) as image:
        have = np.asarray(image.convert("L"), np.float32)
    height, width = (min(pair) for pair in zip(have.shape, exact.shape, strict=True))
    if max(abs(a - b) for a, b in zip(have.shape, exact.shape, strict=True)) > 1:
        raise SystemExit(f"{result} is {have.shape}, not {exact.shape}")
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
    """The mean of every window of `edge` x `edge`."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[edge:, edge:] - sums[:-edge, edge:] - sums[edge:, :-edge] + sums[:-edge, :-edge]) / edge**2


@contextmanager
def _run_mediavault(folder: Path, cores: Cores) -> Iterator[PhotoWorker]:
    """mediavault's processing with its sandbox: child processes for every photo."""
    command = [sys.executable, "-m", "bench.peers.processor"]
    with _run_worker("mediavault", command, {}, folder, cores) as worker:
        yield worker


@contextmanager
def _run_sharp(folder: Path, cores: Cores) -> Iterator[PhotoWorker]:
    """sharp on one thread, with the nice value of mediavault's workers."""
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
    variables = {"BENCH_PORT": str(port), **environment}
    with run_server(command, port=port, cores=cores, environment=variables, folder=folder, log=log) as server:
        yield PhotoWorker(name, server, results, log)
