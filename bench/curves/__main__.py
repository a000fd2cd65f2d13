"""`python -m bench.curves`: measures all curves, writes bench/results/curves-*.json after each point, and draws bench/charts/*.svg."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.curves.catalogue_curves import measure_catalogue
from bench.curves.download_curves import measure_downloads
from bench.curves.line_charts import Chart, draw
from bench.curves.measured_service import DatabaseName, free_memory_folder
from bench.curves.process_curves import measure_processes
from bench.report import FOLDER, RESULTS

CHARTS = FOLDER / "charts"
SIZES = (10_000, 100_000, 1_000_000)
DOWNLOADS = (10, 100, 1000, 5000)
ROUNDS = 3
DATABASES: tuple[DatabaseName, ...] = ("sqlite", "postgresql")
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
UNBOUNDED = {
    "MEDIAVAULT_CONNECTIONS": "10000",
    "MEDIAVAULT_CONNECTIONS_PER_ADDRESS": "10000",
    "MEDIAVAULT_DOWNLOADS_PER_USER": "10000",
}
WORKS = ("sqlite", "postgresql", "processes", "downloads", "draw")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="mediavault-bench-", dir=options.folder or free_memory_folder()) as name:
        folder = Path(name)
        for database in DATABASES:
            if database in options.works:
                for curves in measure_catalogue(folder, database, options.sizes, options.folder):
                    _save(f"curves-{database}", {"cpu_seconds": curves})
        if "processes" in options.works:
            _save("curves-processes", {"samples": list(measure_processes(folder, options.rounds))})
        if "downloads" in options.works:
            _save("curves-downloads", {"samples": list(measure_downloads(folder, options.downloads, UNBOUNDED))})
    _draw_all()


def _save(name: str, measured: Mapping[str, Any]) -> None:
    machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load_average": os.getloadavg()[0]}
    text = json.dumps({"machine": machine, **measured}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _load(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _draw_all() -> None:
    CHARTS.mkdir(exist_ok=True)
    measured = {NAMES[name]: found["cpu_seconds"] for name in DATABASES if (found := _load(f"curves-{name}"))}
    if measured:
        works = list(next(iter(measured.values())))
        charts = [
            Chart(work, "ms", {name: _to_milliseconds(curves[work]) for name, curves in measured.items()})
            for work in works
        ]
        (CHARTS / "catalogue.svg").write_text(draw(charts, list(NAMES.values())), encoding="utf-8")
    if found := _load("curves-processes"):
        figures = {"requests_per_second": "requests a second", "requests_per_cpu_second": "requests a second of CPU"}
        _draw_samples("processes", found["samples"], "processes", figures, "")
    if found := _load("curves-downloads"):
        figures = {
            "cpu_seconds_per_gib": "seconds of CPU for a GiB",
            "seconds": "seconds until all have ended",
            "memory_growth_mib": "memory in use, MiB",
        }
        _draw_samples("downloads", found["samples"], "downloads", figures, "")


def _draw_samples(
    name: str, samples: Sequence[Mapping[str, float]], x: str, figures: Mapping[str, str], unit: str
) -> None:
    charts = [
        Chart(title, unit, {"mediavault": _take_medians(samples, x, figure)}, has_reference=False)
        for figure, title in figures.items()
    ]
    (CHARTS / f"{name}.svg").write_text(draw(charts, ["mediavault"]), encoding="utf-8")


def _take_medians(samples: Sequence[Mapping[str, float]], x: str, figure: str) -> list[tuple[float, float]]:
    places = sorted({sample[x] for sample in samples})
    return [(at, statistics.median(sample[figure] for sample in samples if sample[x] == at)) for at in places]


def _to_milliseconds(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(size, seconds * 1000) for size, seconds in points]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of assets")
    parser.add_argument("--downloads", nargs="+", type=int, default=DOWNLOADS, help="numbers of downloads at once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of processes (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to put files (default: in memory, or the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
