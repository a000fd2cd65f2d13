"""`consistency.py`, the check after every API test, detects each kind of difference between catalogue and storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.api.consistency import CatalogueAndStorage, FileRow, differences

LIVE = FileRow("f1", "anna", "s3://bucket/p/upload/anna/ab/cd/one.jpg", "live", 10)
MADE = FileRow("f3", "anna", "s3://bucket/p/thumbs/anna/ab/cd/one_preview_0a1b2c3d.jpg", "live", 7, "preview")
DOOMED = FileRow("f2", "anna", "s3://bucket/p/upload/anna/ab/cd/two.jpg", "doomed", 5)
ASSET = ("an asset", "anna")
DERIVATIVE = ("a derivative", "anna")
GOOD = CatalogueAndStorage(
    objects={LIVE.path: 10, MADE.path: 7, DOOMED.path: 5, "s3://bucket/p/.immich": 37},
    files=[LIVE, MADE, DOOMED],
    references={"f1": [ASSET], "f3": [DERIVATIVE]},
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
        ({"objects": {DOOMED.path: 5, MADE.path: 7}}, f"live, but not stored: {LIVE.path}"),
        ({"objects": {**GOOD.objects, LIVE.path: 9}}, f"9 bytes stored, 10 in the row: {LIVE.path}"),
        ({"references": {"f1": [ASSET]}}, f"live, but 0 rows refer to it: {MADE.path}"),
        (
            {"references": {**GOOD.references, "f3": [ASSET, DERIVATIVE]}},
            f"live, but 2 rows refer to it: {MADE.path}",
        ),
        (
            {"references": {**GOOD.references, "f2": [DERIVATIVE]}},
            "a derivative refers to a file that is doomed: f2",
        ),
        ({"references": {**GOOD.references, "f9": [ASSET]}}, "an asset refers to a file that is gone: f9"),
        (
            {"references": {**GOOD.references, "f1": [("an asset", "bert")]}},
            f"an asset refers to a file of somebody else: {LIVE.path}",
        ),
        ({"used": {"anna": 15, "bert": 0}}, "user anna has 10 live bytes of their own and 15 counted"),
        ({"used": {"anna": 10, "bert": 1}}, "user bert has 0 live bytes of their own and 1 counted"),
    ],
)
def test_each_difference_is_named(change: Mapping[str, object], found: str) -> None:
    snapshot = replace(GOOD, **change)  # pyright: ignore[reportArgumentType]

    assert differences(snapshot, exact=False) == [found]
