"""Cutting a selection of assets into archives that keep to a size. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True)
class PlannedArchive:
    """One archive to be: its assets, and their bytes."""

    asset_ids: list[UUID] = field(default_factory=list[UUID])
    size: int = 0


def split_by_size(groups: Iterable[Sequence[tuple[UUID, int]]], limit: int) -> Iterator[PlannedArchive]:
    """Archives of at most `limit` bytes, in the order given; only one asset larger than the limit exceeds it, and stands alone.

    A group (a live photo and its motion part, each with its size) stays together where it fits into one archive. An asset
    that comes again is left out.
    """
    seen: set[UUID] = set()
    part = PlannedArchive()
    for group in groups:
        fresh = [(asset_id, size) for asset_id, size in dict(group).items() if asset_id not in seen]
        seen.update(asset_id for asset_id, _ in fresh)
        whole = sum(size for _, size in fresh)
        pieces = [fresh] if whole <= limit else [[item] for item in fresh]
        for piece in pieces:
            size = sum(bytes_ for _, bytes_ in piece)
            if part.asset_ids and part.size + size > limit:
                yield part
                part = PlannedArchive()
            part.asset_ids += [asset_id for asset_id, _ in piece]
            part.size += size
    if part.asset_ids:
        yield part
