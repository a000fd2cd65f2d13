"""`python -m bench`: start all servers, measure in interleaved rounds, write bench/results and the table.

The raw figures of each kind of work are saved in a file of their own right after its measurement, so that one kind can be repeated alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import (
    archives,
    contestants,
    front_server,
    immich_imports,
    load,
    metrics_cost,
    photos,
    pipeline,
    resumable_uploads,
    rows,
    s3_moves,
    s3_reads,
    s3_uploads,
    scans,
    small_uploads,
)
from bench.processes import Cores, choose_cores
from bench.report import format_table, save_results, update_readme_table

ROUNDS_TO_KEEP = 9
ROWS = (
    "upload",
    "small-uploads",
    "upload-s3",
    "resumable",
    "ranges",
    "whole",
    "front-server",
    "s3",
    "s3-cache",
    "zip",
    "zip-s3",
    "photos",
    "pipeline",
    "move",
    "scan",
    "immich-import",
    "metrics",
)
MEBIBYTES = 1024
MEBIBYTE = 1024**2


def main() -> None:
    options = _options()
    for program in ("wrk", contestants.find_nginx(), "taskset"):
        if not shutil.which(program):
            raise SystemExit(f"bench needs {program}; on Debian: apt-get install nginx-light wrk util-linux")
    full = _is_full_run(options)
    with tempfile.TemporaryDirectory(prefix="mediavault-bench-", dir=options.folder) as name:
        for work, measured in _run_works(Path(name), options):
            print("\n".join(format_table(measured, options.rounds)), flush=True)
            if full:
                print(f"raw figures: bench/results/{save_results(work, measured, options.rounds).name}", flush=True)
    if full:
        update_readme_table(ROWS)
    else:
        print("\nbench/results and the table are left as they are: they take all rounds, and everything in full size")


def _is_full_run(options: argparse.Namespace) -> bool:
    return (
        options.rounds >= ROUNDS_TO_KEEP
        and options.mebibytes >= MEBIBYTES
        and options.files >= scans.FILES
        and options.photos >= pipeline.PHOTOS
    )


def _run_works(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, list[rows.ResultRow]]]:
    """Yield each requested kind of work with its rows, as soon as it is measured."""
    cores = choose_cores()
    os.sched_setaffinity(0, cores.load)  # inherited by child processes; servers get their own
    if "photos" in options.rows:
        yield "photos", photos.measure_derivatives(folder, options.rounds, cores)
    if "scan" in options.rows:
        yield "scan", scans.measure_scans(folder, options, cores)
    if "immich-import" in options.rows:
        yield "immich-import", immich_imports.measure_imports(folder, options.rounds, cores)
    if "pipeline" in options.rows:
        yield "pipeline", pipeline.measure_pipeline(folder, options, cores)
    if "move" in options.rows:
        yield "move", s3_moves.measure_moves(folder, options)
    if "metrics" in options.rows:
        yield "metrics", [metrics_cost.measure_metrics_cost(folder, options.seconds, options.rounds, cores)]
    if "front-server" in options.rows:
        yield "front-server", front_server.measure_front_server(folder, options, cores)
    if set(options.rows) - {"photos", "scan", "immich-import", "pipeline", "move", "metrics", "front-server"}:
        yield from _measure_servers(folder, options, cores)


def _measure_servers(
    folder: Path, options: argparse.Namespace, cores: Cores
) -> Iterator[tuple[str, list[rows.ResultRow]]]:
    source = folder / "source.mp4"
    with source.open("wb") as file:
        for _ in range(options.mebibytes):
            file.write(os.urandom(MEBIBYTE))
    with ExitStack() as stack:
        service = stack.enter_context(contestants.mediavault(folder, cores))
        if {"upload", "small-uploads", "upload-s3"} & set(options.rows):
            yield from _measure_uploads(folder, service, source, options, cores)
        if "resumable" in options.rows:
            resumable = resumable_uploads.measure_resumable_uploads(folder, service, source, options.rounds, cores)
            yield "resumable", resumable
        for name in set(options.rows) & s3_reads.MEASURES.keys():
            yield name, s3_reads.MEASURES[name](folder, source, options, cores)
        if "zip" in options.rows:
            yield "zip", archives.measure_zips_from_disk(folder, service, options, cores)
        if "zip-s3" in options.rows:
            yield "zip-s3", archives.measure_zips_from_s3(folder, options, cores)
        if {"ranges", "whole"} & set(options.rows):
            readers, size = _start_readers(stack, folder, service, source, cores)
            if "ranges" in options.rows:
                ranges = rows.measure_ranges("64 KiB ranges", readers, size, options.seconds, options.rounds, cores)
                yield "ranges", [ranges]
            if "whole" in options.rows:
                yield (
                    "whole",
                    [rows.measure_whole_file("whole file", readers, size, options.times, options.rounds, cores)],
                )


def _measure_uploads(
    folder: Path, service: contestants.Contestant, source: Path, options: argparse.Namespace, cores: Cores
) -> Iterator[tuple[str, list[rows.ResultRow]]]:
    with contestants.upload_file(folder, cores) as form:
        if "upload" in options.rows:
            yield "upload", [rows.measure_uploads([service, form], source, options.rounds, cores)]
        if "small-uploads" in options.rows:
            yield "small-uploads", [small_uploads.measure_small_uploads([service, form], options.rounds, cores)]
    if "upload-s3" in options.rows:
        yield "upload-s3", [s3_uploads.measure_s3_uploads(folder, source, options.rounds, cores)]


def _start_readers(
    stack: ExitStack, folder: Path, service: contestants.Contestant, source: Path, cores: Cores
) -> tuple[list[contestants.Contestant], int]:
    """Upload the file once; the peers serve it from where the service stored it, so all read the same pages."""
    answer = load.upload(service.server.port, service.path, source, headers=service.headers, cores=cores)
    source.unlink()
    stored = max((folder / "data" / "media" / "upload").rglob("*.mp4"), key=lambda path: path.stat().st_mtime)
    original = contestants.Contestant(
        service.name, service.server, f"{service.path}/{answer['id']}/original", service.headers
    )
    readers = [
        original,
        stack.enter_context(contestants.file_response(folder, stored, cores)),
        stack.enter_context(contestants.nginx(folder, stored, cores)),
    ]
    if contestants.is_node_installed():
        readers.append(stack.enter_context(contestants.express(folder, stored, cores)))
    else:
        print("Express is left out: there is no node or npm here")
    return readers, stored.stat().st_size


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS_TO_KEEP, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure (default: all)")
    parser.add_argument("--seconds", type=int, default=3, help="of ranges, each time (default: %(default)s)")
    parser.add_argument("--times", type=int, default=4, help="to read the whole file each time (default: %(default)s)")
    parser.add_argument("--mebibytes", type=int, default=MEBIBYTES, help="size of the file (default: %(default)s)")
    parser.add_argument("--files", type=int, default=scans.FILES, help="to scan (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=pipeline.PHOTOS, help="to process (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to put files, on a real disk (default: the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
