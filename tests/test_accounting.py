"""`tests/accounting.py`: counts of tests per engine and database, missing tests, and secrets in logs."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from tests.accounting import RunRecord
from tests.real.secrets import find_leaks


@pytest.mark.parametrize(
    ("nodeid", "by_stack", "engines", "databases"),
    [
        ("t.py::test_a[local]", False, {"local"}, set()),
        ("t.py::test_a[s3-compatible]", False, {"s3"}, set()),
        ("t.py::test_a[s3-aws-large]", False, {"s3"}, set()),
        ("t.py::test_a[sqlite-x]", False, set(), {"sqlite"}),
        ("t.py::test_a[postgresql]", False, set(), {"postgresql"}),
        ("t.py::test_a[s3-bytes=0-4]", True, {"s3"}, {"postgresql"}),
        ("t.py::test_a[local-large]", True, {"local"}, {"sqlite"}),
        ("t.py::test_a[localhost]", False, set(), set()),
        ("t.py::test_local", False, set(), set()),
        ("t.py::TestLocal::test_a[1]", False, {"local"}, set()),
        ("t.py::TestS3::test_a", False, {"s3"}, set()),
    ],
    ids=[f"case {number}" for number in range(11)],  # not the default ids: they contain node ids, and would be counted
)
def test_where_a_test_ran(nodeid: str, by_stack: bool, engines: set[str], databases: set[str]) -> None:
    ledger = RunRecord()
    ledger.note(nodeid, by_stack=by_stack)

    assert set(ledger.engines) == engines
    assert set(ledger.databases) == databases


def test_two_profiles_of_one_engine_count_once() -> None:
    ledger = RunRecord()
    for backend in ("local", "s3-aws", "s3-compatible"):
        ledger.note(f"t.py::test_a[{backend}-x]", by_stack=False)

    assert ledger.lines()[0] == "tests per engine: local 1, s3 1"
    assert ledger.differences() == []


def test_a_test_that_ran_on_one_engine_only_is_named() -> None:
    ledger = RunRecord()
    ledger.note("t.py::test_a[local-x]", by_stack=False)
    ledger.note("t.py::test_a[s3-y]", by_stack=False)

    assert ledger.differences() == ["ran on local only: t.py::test_a[*-x]", "ran on s3 only: t.py::test_a[*-y]"]


@pytest.mark.parametrize("written", ["key is s3cr/t value", "GET /?apiKey=s3cr%2Ft%20value"])
def test_a_secret_in_a_log_is_found(tmp_path: Path, written: str) -> None:
    log = tmp_path / "service.log"
    log.write_text(f"started\n{written}\n")

    (leak,) = find_leaks(["s3cr/t value", "another secret"], [log])

    assert leak.startswith(f"{log}:2:")
    assert "s3cr" not in leak


def test_a_clean_log_is_clean(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("started\n")

    assert find_leaks(["another secret"], [log, tmp_path / "missing.log"]) == []


def test_a_logger_that_was_used_after_a_command_configured_logging_is_captured() -> None:
    before = structlog.get_config()
    logger = structlog.get_logger("tests")
    try:
        for event in ("first", "after a second command"):
            structlog.configure(
                processors=[structlog.processors.JSONRenderer()],
                cache_logger_on_first_use=True,
                logger_factory=structlog.ReturnLoggerFactory(),
            )
            logger.warning(event)
        with capture_logs() as lines:
            logger.warning("captured")
    finally:
        structlog.configure(**before)
    assert [line["event"] for line in lines] == ["captured"]
