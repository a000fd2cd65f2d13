"""The check that runs after every API test notices each way in which catalogue and storage can differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.api.agreement import FileRow, Picture, differences

LIVE = FileRow("f1", "anna", "s3://bucket/p/upload/anna/ab/cd/one.jpg", "live", 10)
DOOMED = FileRow("f2", "anna", "s3://bucket/p/upload/anna/ab/cd/two.jpg", "doomed", 5)
GOOD = Picture(
    objects={LIVE.path: 10, DOOMED.path: 5, "s3://bucket/p/.immich": 37},
    files=[LIVE, DOOMED],
    references={"f1": ["anna"]},
    used={"anna": 10, "bert": 0},
)


def test_agreement() -> None:
    assert differences(GOOD, exact=False) == []


def test_what_is_not_swept_counts_only_when_it_should_have_been() -> None:
    assert differences(GOOD, exact=True) == [f"doomed, not swept: {DOOMED.path}"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"objects": {**GOOD.objects, "s3://bucket/p/stray.jpg": 1}}, "stored without a row: s3://bucket/p/stray.jpg"),
        ({"objects": {DOOMED.path: 5}}, f"live, but not stored: {LIVE.path}"),
        ({"objects": {**GOOD.objects, LIVE.path: 9}}, f"9 bytes stored, 10 in the row: {LIVE.path}"),
        ({"references": {}}, f"live, but 0 assets refer to it: {LIVE.path}"),
        ({"references": {"f1": ["anna"], "f2": ["anna"]}}, "an asset refers to a file that is doomed: f2"),
        ({"references": {"f1": ["anna"], "f9": ["anna"]}}, "an asset refers to a file that is gone: f9"),
        ({"references": {"f1": ["bert"]}}, f"an asset refers to a file of somebody else: {LIVE.path}"),
        ({"used": {"anna": 15, "bert": 0}}, "user anna has 10 live bytes and 15 counted"),
        ({"used": {"anna": 10, "bert": 1}}, "user bert has 0 live bytes and 1 counted"),
    ],
)
def test_each_difference_is_named(change: Mapping[str, object], found: str) -> None:
    picture = replace(GOOD, **change)  # pyright: ignore[reportArgumentType]

    assert differences(picture, exact=False) == [found]
