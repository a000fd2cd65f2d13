"""Writes raw figures as JSON, the table of ratios into bench/README.md, between its markers, and their chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.archives import LATENCY_SECONDS, OBJECT_BYTES, OBJECTS, PHOTO_BYTES, PHOTOS
from bench.contestants import ARCHIVER_VERSION, EXPRESS_VERSION, RCLONE_VERSION, find_nginx
from bench.front_server import PASSED_ON, RANGES_ROW, SMALL_ROW, WHOLE_ROW
from bench.immich_imports import ASSETS, PEER
from bench.immich_imports import ROW as IMPORT
from bench.metrics_cost import FILE_BYTES, METRICS_ROW, WITHOUT
from bench.photos import SHARP_VERSION
from bench.pipeline import ROW as PIPELINE
from bench.ratio_chart import MeasuredRatio, draw_ratios
from bench.resumable_uploads import PLAIN, ROW_AT_ONCE
from bench.resumable_uploads import ROW as RESUMABLE_ROW
from bench.rows import ResultRow, Sample
from bench.s3_moves import LARGE_FILES, PLANNED_FILES, SMALL_FILES
from bench.s3_reads import CACHED_RANGES, CACHED_SMALL, CACHED_WHOLE, LOCAL
from bench.s3_uploads import S3_UPLOAD, SDK
from bench.scans import FILES
from bench.small_uploads import CONNECTIONS as UPLOAD_CONNECTIONS
from bench.small_uploads import SMALL_UPLOADS

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


@dataclass(frozen=True, slots=True)
class RatioGoal:
    """A row of the table: the goal for a ratio, from the design's section on speed."""

    row: str
    peer: str
    work: str
    ratio: str
    at_least: float | None = None
    at_most: float | None = None
    is_inverted: bool = False
    """The ratio is the peer's figure over ours."""
    figure: str | None = None
    """The compared figure, if not the row's."""

    def judge(self, ratio: float) -> tuple[str, str]:
        """The goal in words, and whether it is met; empty texts if there is no goal."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}", "met" if ratio >= self.at_least else "not met"
        if self.at_most is not None:
            return f"at most {self.at_most:g}", "met" if ratio <= self.at_most else "not met"
        return "", ""

    def compare(self, ratio: float) -> float | None:
        """How many times better than the goal the ratio is; None if there is no goal."""
        if self.at_least is not None:
            return ratio / self.at_least
        return None if self.at_most is None else self.at_most / ratio

    def compute(self, row: ResultRow) -> tuple[list[float], list[float], float]:
        """Our figures, the peer's, and the median of the ratios of the rounds."""
        figure = self.figure or row.figure
        ours = [sample[figure] for sample in row.samples["mediavault"]]
        theirs = [sample[figure] for sample in row.samples[self.peer]]
        ratios = (b / a if self.is_inverted else a / b for a, b in zip(ours, theirs, strict=True))
        return ours, theirs, statistics.median(ratios)


RANGES = "64 KiB ranges, 16 connections, with key check (peers without)"
WHOLE = "whole 1 GiB file, CPU per GiB"
RANGES_BY_NGINX = "64 KiB ranges that nginx sends for us, CPU of both"
SMALL_BY_NGINX = "whole files of 20 KiB through nginx, CPU of both"
WHOLE_BY_NGINX = "whole 1 GiB file that nginx sends for us, CPU of both, per GiB"
RANGES_S3 = "64 KiB ranges from S3, 16 connections, with key check (peers without)"
WHOLE_S3 = "whole 1 GiB file from S3, CPU per GiB"
ZIP = f"zip of {PHOTOS} x {PHOTO_BYTES // 1024**2} MiB"
ZIP_S3 = f"zip of {OBJECTS} x {OBJECT_BYTES // 1024} KiB from S3, {LATENCY_SECONDS * 1000:.0f} ms latency added"
PHOTO = "preview, thumbnail and thumbhash of a photo"
UPLOAD = "upload of 1 GiB, multipart, CPU"
SMALL_UPLOAD = f"uploads of photos of 1 MiB, {UPLOAD_CONNECTIONS} connections"
RESUMABLE = "resumable upload of 1 GiB by tus, chunks of 8 MiB, CPU"
AT_ONCE = "16 resumable uploads of 64 MiB at once, CPU"
MOVE = f"move of {SMALL_FILES} small and {LARGE_FILES} large files to S3, read back, time"
METRICS = f"whole files of {FILE_BYTES // 1024} KiB, 16 connections, with /metrics (µs)"
IMPORTED = f"import of {ASSETS:,} assets from Immich"
FIRST_SCAN = f"first scan of {FILES:,} files, time"
SECOND_SCAN = f"scan of {FILES:,} files without a change, time"
GOALS = (
    RatioGoal("64 KiB ranges", "FileResponse", RANGES, "our requests per second of CPU / theirs", at_least=8),
    RatioGoal("64 KiB ranges", "Express", RANGES, "our requests per second of CPU / theirs", at_least=4),
    RatioGoal("64 KiB ranges", "nginx", RANGES, "our requests per second of CPU / theirs", at_least=0.45),
    RatioGoal("whole file", "FileResponse", WHOLE, "their CPU / ours", at_least=4, is_inverted=True),
    RatioGoal("whole file", "Express", WHOLE, "their CPU / ours", at_least=3, is_inverted=True),
    RatioGoal("whole file", "nginx", WHOLE, "our CPU / theirs", at_most=1.1),
    RatioGoal(RANGES_ROW, "nginx", RANGES_BY_NGINX, "our requests per second of CPU / theirs", at_least=0.5),
    RatioGoal(RANGES_ROW, PASSED_ON, RANGES_BY_NGINX, "our requests per second of CPU / theirs"),
    RatioGoal(SMALL_ROW, "nginx", SMALL_BY_NGINX, "our requests per second of CPU / theirs", at_least=0.5),
    RatioGoal(SMALL_ROW, PASSED_ON, SMALL_BY_NGINX, "our requests per second of CPU / theirs"),
    RatioGoal(WHOLE_ROW, "nginx", WHOLE_BY_NGINX, "our CPU / theirs", at_most=1.1),
    RatioGoal(WHOLE_ROW, PASSED_ON, WHOLE_BY_NGINX, "our CPU / theirs"),
    RatioGoal("upload", "UploadFile", UPLOAD, "our CPU / theirs", at_most=0.7),
    RatioGoal(
        SMALL_UPLOADS,
        "UploadFile",
        f"{SMALL_UPLOAD}, rate",
        "our photos per second / theirs",
        at_least=1.5,
        figure="photos_per_second",
    ),
    RatioGoal(SMALL_UPLOADS, "UploadFile", f"{SMALL_UPLOAD}, CPU (ms)", "our CPU for each / theirs"),
    RatioGoal(
        S3_UPLOAD, SDK, "upload of 1 GiB to S3, CPU", "our CPU / that of the SDK's multipart upload", at_most=1.1
    ),
    RatioGoal(RESUMABLE_ROW, PLAIN, RESUMABLE, "our CPU / that of our plain upload", at_most=1.2),
    RatioGoal(RESUMABLE_ROW, "tuspyserver", RESUMABLE, "our CPU / theirs", at_most=0.7),
    RatioGoal(ROW_AT_ONCE, "tuspyserver", AT_ONCE, "our CPU / theirs"),
    RatioGoal("zip from disk", "archiver", f"{ZIP}, CPU", "our CPU / theirs", at_most=0.2, figure="cpu_seconds"),
    RatioGoal("zip from disk", "archiver", f"{ZIP}, time", "their time / ours", at_least=3, is_inverted=True),
    RatioGoal("zip from S3", "one ahead", f"{ZIP_S3}, time", "their time / ours", at_least=6, is_inverted=True),
    RatioGoal("photos", "sharp", f"{PHOTO}, CPU, geometric mean", "our CPU / theirs", at_most=1.0),
    RatioGoal(
        "photos", "sharp", f"{PHOTO}, preview: 1 - SSIM", "ours / theirs", at_most=1.1, figure="preview_distance"
    ),
    RatioGoal(
        "photos", "sharp", f"{PHOTO}, thumbnail: 1 - SSIM", "ours / theirs", at_most=1.1, figure="thumbnail_distance"
    ),
    RatioGoal("64 KiB ranges from S3", "rclone", RANGES_S3, "our requests per second of CPU / theirs", at_least=6),
    RatioGoal(
        "64 KiB ranges from S3",
        "nginx proxy_pass",
        RANGES_S3,
        "our requests per second of CPU / theirs",
        at_least=0.5,
    ),
    RatioGoal(
        CACHED_RANGES,
        LOCAL,
        f"{CACHED_RANGES}, with key check",
        "our requests per second of CPU / theirs",
        at_least=0.8,
    ),
    RatioGoal(
        CACHED_SMALL, LOCAL, f"{CACHED_SMALL}, with key check", "our requests per second of CPU / theirs", at_least=0.8
    ),
    RatioGoal(
        CACHED_WHOLE, LOCAL, "whole 1 GiB file from the cache for S3, CPU per GiB", "our CPU / theirs", at_most=1.25
    ),
    RatioGoal("whole file from S3", "rclone", WHOLE_S3, "our CPU / theirs", at_most=1.1),
    RatioGoal("move to S3", "rclone", MOVE, "our time / theirs", at_most=1.1),
    RatioGoal("whole file from S3", "nginx proxy_pass", WHOLE_S3, "our CPU / theirs", at_most=1.5),
    RatioGoal("first scan", "find and inserts", FIRST_SCAN, "our time / theirs", at_most=2),
    RatioGoal(IMPORT, PEER, f"{IMPORTED}, time", "our time / theirs", at_most=3),
    RatioGoal(METRICS_ROW, WITHOUT, METRICS, "our CPU for each request / that without", at_most=1.02),
    RatioGoal("second scan", "find", SECOND_SCAN, "our time / theirs", at_most=3),
)
MEMORY_GOAL_MIB = 64
PLAN_GOAL_MIB = 300
IMPORT_GOAL_MIB = 300
SCAN_MEMORY_GOAL_MIB = 100


def save_results(work: str, rows: Iterable[ResultRow], rounds: int) -> Path:
    """Write raw figures into results/`work`.json, with a description of the machine and the versions."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{work}.json"
    measured = {row.name: {"figure": row.figure, "samples": row.samples} for row in rows}
    content = {"rounds": rounds, "machine": _describe_machine(), "rows": measured}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return target


def update_readme_table(works: Iterable[str]) -> None:
    """Rebuild the table of bench/README.md from all saved results."""
    rows: list[ResultRow] = []
    rounds: list[int] = []
    for path in (RESULTS / f"{work}.json" for work in works):
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            rounds.append(content["rounds"])
            rows += [ResultRow(name, row["figure"], row["samples"]) for name, row in content["rows"].items()]
    _replace_table(FOLDER / "README.md", format_table(rows, min(rounds)))
    (FOLDER / "charts" / "ratios.svg").write_text(draw_ratios(list_ratios(rows)), encoding="utf-8")


def list_ratios(rows: Iterable[ResultRow]) -> list[MeasuredRatio]:
    """Those that have a goal and were measured, in the order of the table."""
    by_name = {row.name: row for row in rows}
    measured: list[MeasuredRatio] = []
    for goal in GOALS:
        row = by_name.get(goal.row)
        if row is None or goal.peer not in row.samples:
            continue
        _, _, ratio = goal.compute(row)
        distance = goal.compare(ratio)
        if distance is not None:
            measured.append(MeasuredRatio(goal.work, goal.peer, ratio, distance))
    return measured


def format_table(rows: Iterable[ResultRow], rounds: int) -> list[str]:
    """The table as Markdown. Each ratio is the median of the ratios of its rounds."""
    rows = list(rows)
    by_name = {row.name: row for row in rows}
    lines = [
        f"Median of {rounds} interleaved rounds; {_format_machine()}.",
        "",
        "| work | peer | ours | theirs | ratio | | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for goal in GOALS:
        row = by_name.get(goal.row)
        if row is None or goal.peer not in row.samples:
            continue
        ours, theirs, ratio = goal.compute(row)
        goal_text, met = goal.judge(ratio)
        figures = f"{_format_figure(statistics.median(ours))} | {_format_figure(statistics.median(theirs))}"
        lines.append(f"| {goal.work} | {goal.peer} | {figures} | {ratio:.2f} | {goal.ratio} | {goal_text} | {met} |")
    rows_without_peer = (
        _format_pipeline(by_name.get(PIPELINE))
        + _format_memory(by_name.get("upload"), "upload of 1 GiB, multipart")
        + _format_memory(by_name.get(RESUMABLE_ROW), "resumable upload of 1 GiB by tus")
        + _format_memory(by_name.get(ROW_AT_ONCE), "16 resumable uploads at once")
        + _format_plan_memory(by_name.get("plan of a million files"))
        + _format_peak(by_name.get("first scan"), f"first scan of {FILES:,} files", SCAN_MEMORY_GOAL_MIB)
        + _format_peak(by_name.get(IMPORT), IMPORTED, IMPORT_GOAL_MIB)
    )
    return lines + rows_without_peer + _format_load(row for row in rows if row.figure == "requests_per_cpu_second")


def _format_pipeline(row: ResultRow | None) -> list[str]:
    if row is None:
        return []
    samples = row.samples["mediavault"]
    cores = f"on all {_median(samples, 'processors'):.0f} cores, which the store shares"
    figures = f"{_median(samples, row.figure):.1f} a second | | | {cores}"
    return [f"| photos through the whole pipeline from S3 | | {figures} | | |"]


def _format_memory(row: ResultRow | None, work: str) -> list[str]:
    if row is None:
        return []
    growth = max(sample["memory_growth_mib"] for sample in row.samples["mediavault"])
    met = "met" if growth <= MEMORY_GOAL_MIB else "not met"
    figures = f"{growth:.0f} MiB | | | peak of memory over its start"
    return [f"| {work}, memory | | {figures} | at most {MEMORY_GOAL_MIB} MiB | {met} |"]


def _format_plan_memory(row: ResultRow | None) -> list[str]:
    if row is None:
        return []
    peak = max(sample["memory_mib"] for sample in row.samples["mediavault"])
    met = "met" if peak <= PLAN_GOAL_MIB else "not met"
    work = f"plan of a move of {PLANNED_FILES} files, memory"
    return [f"| {work} | | {peak:.0f} MiB | | | peak | at most {PLAN_GOAL_MIB} MiB | {met} |"]


def _format_peak(row: ResultRow | None, work: str, goal: int) -> list[str]:
    if row is None:
        return []
    peak = max(sample["memory_mib"] for sample in row.samples["mediavault"])
    met = "met" if peak <= goal else "not met"
    return [f"| {work}, memory | | {peak:.0f} MiB | | | peak of the whole process | at most {goal} MiB | {met} |"]


def _format_load(rows: Iterable[ResultRow]) -> list[str]:
    """Wall-clock rates, with the load of the server's core: a server below 100% waited for the load generator."""
    lines: list[str] = []
    for row in rows:
        measured = ", ".join(
            f"{name} {_median(samples, 'requests_per_second'):.0f} ({_median(samples, 'server_busy'):.0%})"
            for name, samples in row.samples.items()
        )
        lines += ["", f"{row.name}: requests per second of the clock (and how busy the server's core was): {measured}."]
    return lines


def _median(samples: list[Sample], figure: str) -> float:
    return statistics.median(sample[figure] for sample in samples)


def _format_figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3f}"


def _replace_table(readme: Path, lines: list[str]) -> None:
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after, encoding="utf-8")


def _describe_machine() -> dict[str, str | int]:
    packages = ("uvicorn", "starlette", "fastapi", "uvloop", "httptools", "pillow")
    return {
        "processors": os.cpu_count() or 0,
        "python": platform.python_version(),
        "nginx": _read_version(find_nginx(), "-v").rpartition("/")[2],
        "node": _read_version("node", "--version").lstrip("v"),
        "express": EXPRESS_VERSION,
        "archiver": ARCHIVER_VERSION,
        "rclone": RCLONE_VERSION,
        "sharp": SHARP_VERSION,
        **{name: version(name) for name in packages},
    }


def _format_machine() -> str:
    machine = _describe_machine()
    names = ("python", "uvicorn", "starlette", "nginx", "node", "express", "archiver", "rclone", "pillow", "sharp")
    return f"{machine['processors']} processors, " + ", ".join(f"{name} {machine[name]}" for name in names)


def _read_version(program: str, flag: str) -> str:
    try:
        finished = subprocess.run([program, flag], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "none"
    return (finished.stdout or finished.stderr).strip()
