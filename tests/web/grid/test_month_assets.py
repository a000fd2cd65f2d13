"""The columns of a month, packed and read again."""

from __future__ import annotations

import base64
import random
from typing import Any
from uuid import UUID

from tests.real.page_modules import run_modules

READ = """
  const { packColumns } = await load("library/timeline/packed-columns.js");
  const { MonthAssets } = await load("library/timeline/month-assets.js");
  const all = new MonthAssets(packColumns(value.columns));
  const read = (month) => Array.from({ length: month.count }, (_, index) => ({
    id: month.getId(index), live: month.getLiveId(index), time: month.getTime(index), ratio: month.getRatio(index),
    isImage: month.isImage(index), isFavorite: month.isFavorite(index), duration: month.getDuration(index),
    hash: month.getThumbhash(index) && Buffer.from(month.getThumbhash(index)).toString("base64"),
    index: month.indexOf(month.getId(index)),
  }));
  return [read(all), read(all.without(new Set(value.gone))), all.indexOf("00000000-0000-4000-8000-000000000000")];
"""
FIRST_TIME = 1_717_243_200_000
"""2024-06-01T12:00:00Z."""
HOUR = 3_600_000


def test_what_is_packed_is_read(seed: int) -> None:
    dice = random.Random(seed)
    count = 40
    ids = [str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(count)]
    lives = [str(UUID(int=dice.getrandbits(128), version=4)) if dice.random() < 0.3 else None for _ in range(count)]
    hashes = [
        base64.b64encode(dice.randbytes(dice.randrange(20, 28))).decode() if dice.random() < 0.7 else None for _ in ids
    ]
    columns: dict[str, list[Any]] = {
        "id": ids,
        "livePhotoVideoId": lives,
        "thumbhash": hashes,
        "fileCreatedAt": ["2024-06-01T12:00:00.000Z"] * count,
        "localOffsetHours": [dice.choice([-9.5, 0, 2, 5.75]) for _ in ids],
        "ratio": [dice.choice([0.5, 1, 1.5, 2]) for _ in ids],
        "isImage": [dice.random() < 0.5 for _ in ids],
        "isFavorite": [dice.random() < 0.5 for _ in ids],
        "duration": [dice.choice([None, 0, 1500]) for _ in ids],
    }
    gone = set(dice.sample(ids, 7))

    everything, kept, unknown = run_modules(READ, {"columns": columns, "gone": sorted(gone)})

    expected = [
        {
            "id": ids[index],
            "live": lives[index],
            "time": FIRST_TIME + columns["localOffsetHours"][index] * HOUR,
            "ratio": columns["ratio"][index],
            "isImage": columns["isImage"][index],
            "isFavorite": columns["isFavorite"][index],
            "duration": columns["duration"][index] or 0,
            "hash": hashes[index],
        }
        for index in range(count)
    ]
    assert everything == [each | {"index": index} for index, each in enumerate(expected)]
    remaining = [each for each in expected if each["id"] not in gone]
    assert kept == [each | {"index": index} for index, each in enumerate(remaining)]
    assert unknown == -1
