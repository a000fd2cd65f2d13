"""The table of `make bench`: each ratio is the median of the rounds' ratios, in the direction of its goal."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.ratio_chart import MET, MISSED, draw_ratios
from bench.report import format_table, list_ratios
from bench.rows import ResultRow
from bench.small_uploads import SMALL_UPLOADS


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    ours = [{"cpu_seconds_per_gib": seconds} for seconds in (0.125, 0.25, 0.5)]
    nginx = [{"cpu_seconds_per_gib": seconds} for seconds in (0.125, 0.125, 0.5)]
    express = [{"cpu_seconds_per_gib": seconds} for seconds in (0.5, 0.75, 1.0)]
    row = ResultRow("whole file", "cpu_seconds_per_gib", {"mediavault": ours, "nginx": nginx, "Express": express})

    lines = format_table([row], 3)

    beside_nginx = next(line for line in lines if "| nginx |" in line)
    assert "| 0.250 | 0.125 | 1.00 | our CPU / theirs | at most 1.1 | met |" in beside_nginx
    beside_express = next(line for line in lines if "| Express |" in line)
    assert "| 0.250 | 0.750 | 3.00 | their CPU / ours | at least 3 | met |" in beside_express
    assert not any("FileResponse" in line for line in lines), "who was not measured has no row"


def test_a_goal_that_is_missed_says_so() -> None:
    ours = [{"requests_per_cpu_second": 900.0, "requests_per_second": 800.0, "server_busy": 0.9}]
    theirs = [{"requests_per_cpu_second": 3000.0, "requests_per_second": 1500.0, "server_busy": 0.5}]
    row = ResultRow("64 KiB ranges", "requests_per_cpu_second", {"mediavault": ours, "nginx": theirs})

    lines = format_table([row], 1)

    assert any(
        "| nginx | 900 | 3000 | 0.30 |" in line and line.endswith("| at least 0.45 | not met |") for line in lines
    )
    assert lines[-1].endswith("mediavault 800 (90%), nginx 1500 (50%).")


def test_the_chart_shows_how_far_each_ratio_is_from_its_goal() -> None:
    whole = ResultRow(
        "whole file",
        "cpu_seconds_per_gib",
        {"mediavault": [{"cpu_seconds_per_gib": 0.5}], "nginx": [{"cpu_seconds_per_gib": 0.25}]},
    )
    move = ResultRow("move to S3", "seconds", {"mediavault": [{"seconds": 5.0}], "rclone": [{"seconds": 11.0}]})

    ratios = list_ratios([whole, move])

    assert [(each.peer, round(each.ratio, 3), round(each.distance, 3)) for each in ratios] == [
        ("nginx", 2.0, 0.55),
        ("rclone", 0.455, 2.42),
    ]
    chart = ElementTree.fromstring(draw_ratios(ratios))
    bars = list(chart.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    assert [bar.get("fill") for bar in bars] == [MISSED, MET]
    goal = float(bars[1].get("x", ""))
    assert float(bars[0].get("x", "")) + float(bars[0].get("width", "")) == pytest.approx(goal, abs=0.2)


def test_a_scan_has_rows_of_its_own() -> None:
    ours = [{"seconds": 12.0, "cpu_seconds": 11.0, "memory_mib": 80.0}]
    theirs = [{"seconds": 8.0, "cpu_seconds": 7.0}]

    lines = format_table([ResultRow("first scan", "seconds", {"mediavault": ours, "find and inserts": theirs})], 1)

    assert any("| find and inserts | 12.000 | 8.000 | 1.50 |" in line and "| met |" in line for line in lines)
    assert any("| 80 MiB |" in line and line.endswith("| at most 100 MiB | met |") for line in lines)


def test_the_pipeline_has_no_peer() -> None:
    ours = [{"photos_per_second": rate, "cpu_seconds_per_photo": 0.3, "processors": 2} for rate in (5.0, 7.5, 9.0)]

    lines = format_table([ResultRow("pipeline from S3", "photos_per_second", {"mediavault": ours})], 3)

    assert any("| 7.5 a second |" in line and "on all 2 cores" in line for line in lines)


def test_small_uploads_are_compared_by_rate_and_by_cpu() -> None:
    ours = [{"cpu_milliseconds_per_photo": 4.0, "photos_per_second": 240.0, "server_busy": 0.9}]
    theirs = [{"cpu_milliseconds_per_photo": 5.0, "photos_per_second": 200.0, "server_busy": 1.0}]
    row = ResultRow(SMALL_UPLOADS, "cpu_milliseconds_per_photo", {"mediavault": ours, "UploadFile": theirs})

    lines = format_table([row], 1)

    assert any("| 240 | 200 | 1.20 |" in line and "at least 1.5 | not met" in line for line in lines)
    assert any("| 4.000 | 5.000 | 0.80 |" in line for line in lines)
