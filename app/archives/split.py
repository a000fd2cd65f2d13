"""Splits a selection of assets into archives of limited size. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True)
class PlannedArchive:
    """An archive that has not been built yet: its assets, and the bytes of their files."""

    asset_ids: list[UUID] = field(default_factory=list[UUID])
    size: int = 0


def split_by_size(groups: Iterable[Sequence[tuple[UUID, int]]], limit: int) -> Iterator[PlannedArchive]:
    """Archives of at most `limit` bytes, in the order given. An asset larger than `limit` gets an archive of its own.

    A group (a live photo and its motion part, each with its size) stays together if it fits into one archive. Repeated assets are
    skipped.
    """
    seen: set[UUID] = set()
    part = PlannedArchive()
    for group in groups:
        unseen = [(asset_id, size) for asset_id, size in dict(group).items() if asset_id not in seen]
        seen.update(asset_id for asset_id, _ in unseen)
        group_size = sum(size for _, size in unseen)
        units = [unseen] if group_size <= limit else [[item] for item in unseen]
        for unit in units:
            unit_size = sum(size for _, size in unit)
            if part.asset_ids and part.size + unit_size > limit:
                yield part
                part = PlannedArchive()
            part.asset_ids += [asset_id for asset_id, _ in unit]
            part.size += unit_size
    if part.asset_ids:
        yield part
