"""Rollback of a move that was killed before its switch removes the copies that the move made, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.catalog.moves.move_ledger import MoveLedger
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.migration.library import ExpectedFile, Library, make_filters
from tests.migration.test_faults import flip, named, store


class SimulatedKill(Exception):
    """Raised at a write to the ledger, in place of SIGKILL."""


@contextmanager
def killed_at(step: str) -> Iterator[None]:
    """Make the given method of the ledger raise before it does anything."""

    async def die(*_: Any) -> None:
        raise SimulatedKill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MoveLedger, step, die)
        with pytest.raises(SimulatedKill):
            yield


async def stored(library: Library, path: str) -> bytes:
    async with library.storage.read(path) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


def copy_of(library: Library, kept: ExpectedFile) -> str:
    return library.work().route.target_path(kept.path)


async def test_what_lies_where_nothing_was_copied_stays(library: Library) -> None:
    """A foreign object, one whose file is deleted by its owner, and a copy without a row whose source was damaged since."""
    foreign, deleted, spoilt, _ = await library.fill([5000, 6000, 7000, 8000])
    await store(library, copy_of(library, foreign), b"somebody else's")
    await store(library, copy_of(library, deleted), b"also theirs")
    await store(library, copy_of(library, spoilt), await stored(library, spoilt.path))
    await flip(library, spoilt.path)
    before = library.at_target()
    with killed_at("begin_copying"):
        await run_move(library.work())
    await library.delete(deleted)

    back = await roll_back_move(library.work())

    assert back.problems.count == 0
    await library.sweep()
    assert library.at_target() == before


async def test_copies_that_nobody_recorded_go_where_their_sources_are_whole(library: Library) -> None:
    well, gone, spoilt, replaced = await library.fill([5000, 6000, 7000, 8000])
    with killed_at("record_outcomes"):
        await run_move(library.work())
    assert len(library.at_target()) == 4
    await store(library, gone.path, None)
    await flip(library, spoilt.path)
    await store(library, copy_of(library, replaced), b"somebody else's")

    back = await roll_back_move(library.work())

    assert sorted(named(back.problems)) == sorted([(gone.path, "missing"), (spoilt.path, "damaged")])
    await library.sweep()
    assert set(library.at_target()) == {copy_of(library, kept) for kept in (gone, spoilt, replaced)}
    assert await library.sha256(well.path) == well.sha256
    await run_move(library.work())
    await switch_move(library.work())
    for kept in (gone, spoilt):
        assert (await library.file(kept)).path == copy_of(library, kept)
        assert await library.sha256(copy_of(library, kept)) == kept.sha256


async def test_a_copy_where_something_else_lay_before_is_no_orphan(library: Library) -> None:
    (kept,) = await library.fill([5000])
    await store(library, copy_of(library, kept), b"somebody else's")
    assert named((await run_move(library.work())).problems) == [(kept.path, "occupied")]
    await store(library, copy_of(library, kept), None)
    with killed_at("record_outcomes"):
        await run_move(library.work())
    assert library.at_target()

    await roll_back_move(library.work())

    await library.check_exact(at=library.source_base)
    assert not library.at_target()


async def test_what_goes_away_while_it_is_looked_at_is_begun_before_it_is_copied(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = await library.fill([5000])
    await store(library, copy_of(library, kept), b"somebody else's")
    begin_copying = MoveLedger.begin_copying

    async def and_remove(moves: MoveLedger, *arguments: Any) -> None:
        await begin_copying(moves, *arguments)
        await store(library, copy_of(library, kept), None)

    monkeypatch.setattr(MoveLedger, "begin_copying", and_remove)
    with killed_at("record_outcomes"):
        await run_move(library.work())
    assert library.at_target() == {copy_of(library, kept): 5000}

    await roll_back_move(library.work())

    await library.check_exact(at=library.source_base)
    assert not library.at_target()


async def test_what_is_put_where_no_copy_could_be_made_stays(library: Library) -> None:
    (kept,) = await library.fill([5000])
    await store(library, kept.path, None)
    assert named((await run_move(library.work())).problems) == [(kept.path, "missing")]
    await store(library, copy_of(library, kept), b"theirs")

    await roll_back_move(library.work())

    await library.sweep()
    assert list(library.at_target().values()) == [6]


async def test_what_was_rolled_back_of_a_move_that_goes_on_moves_after_all(library: Library) -> None:
    somebody = (await library.catalog.users.create("somebody@example.org", "Somebody")).id
    await library.fill([5000, 6000])
    await library.fill([7000], owner=somebody, seed=2)
    await run_move(library.work())
    assert (await roll_back_move(library.work(filters=make_filters(somebody)))).files == 1

    assert (await run_move(library.work())).files == 1

    assert (await switch_move(library.work())).files == 3
    await library.age()
    assert "the move to " + library.to + " is finished" in (await clean_up_move(library.work())).notes
    await library.check_exact(at=library.target_base)


async def test_a_move_is_not_called_finished_while_files_are_at_the_source(library: Library) -> None:
    somebody = (await library.catalog.users.create("somebody@example.org", "Somebody")).id
    await library.fill([5000])
    await library.fill([7000], owner=somebody, seed=2)
    await run_move(library.work())
    await roll_back_move(library.work(filters=make_filters(somebody)))
    switched = await switch_move(library.work())
    await library.age()

    cleaned = await clean_up_move(library.work())

    assert any("not all files are copied" in note for note in switched.notes)
    assert not any("finished" in note for note in cleaned.notes)
    assert any(f"other files are still at {library.source_base}" in note for note in cleaned.notes)
