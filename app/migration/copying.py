"""One file's copy: read, hashed on the way, written once, and verified. Decides nothing about other files, and changes no row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.catalog.move_records import Move, MoveOutcome, MoveState
from app.catalog.records import File
from app.migration.problems import (
    COPY_DAMAGED,
    COPY_MISSING,
    DAMAGED,
    ELSEWHERE,
    OCCUPIED,
    UNRECORDED,
    Problem,
    ProblemKind,
    source_problem,
    target_problem,
    wrong_size,
)
from app.migration.progress import Progress
from app.migration.route import Route
from app.migration.throttle import Throttle
from app.migration.verification import Digest, Method, Record, find_fault, record_of
from app.storage.errors import ObjectExists, StorageError
from app.storage.key import Key


class _Failed(Exception):
    """Ends a copy, and with it the write: nothing is committed, unless it is `unsure`, because the store did not answer."""

    def __init__(self, problem: Problem, *, unsure: bool = False) -> None:
        self.problem = problem
        self.unsure = unsure


class Copier:
    """Brings files to `verified`. Whose copy is begun must be `copying` in the ledger before, whatever the item that is given says: that
    of one that was `planned` tells that nothing of ours can have been at the target until now."""

    def __init__(self, route: Route, method: Method, throttle: Throttle, progress: Progress) -> None:
        self._route = route
        self._method = method
        self._throttle = throttle
        self._progress = progress

    async def carry(self, move: Move, file: File, *, free: bool) -> MoveOutcome:
        """How far the file is now. `free`: a listing has shown that nothing is at the target. Never raises a `StorageError`."""
        told = _Told(self._progress)
        try:
            state, problem = await self._carry(move, file, told, free)
        finally:
            self._progress.done(max(0, move.item.size - told.size))
        return MoveOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def adopt(self, move: Move, file: File) -> MoveOutcome | None:
        """For an item that is `planned`, and something lies at its target: what it is; None where it is gone. Writes nothing."""
        record, target = record_of(file), self._route.target.area.key(move.item.target_path)
        if record is None:
            state, problem = MoveState.PLANNED, UNRECORDED
        elif target is None:
            state, problem = MoveState.PLANNED, ELSEWHERE
        else:
            state, problem = await self._adopt(target, record, MoveState.PLANNED)
        if problem is COPY_MISSING:
            return None
        self._progress.done(move.item.size)
        return MoveOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def _carry(self, move: Move, file: File, told: _Told, free: bool) -> tuple[MoveState, Problem | None]:
        record = record_of(file)
        if record is None:
            return move.item.state, UNRECORDED
        source = self._route.source.area.key(move.item.source_path)
        target = self._route.target.area.key(move.item.target_path)
        if source is None or target is None:
            return move.item.state, ELSEWHERE
        if move.item.state is MoveState.COPIED:
            fault = await find_fault(self._route.target, target, record, self._method)
            if fault is None:
                return MoveState.VERIFIED, None
            if fault is not COPY_MISSING:
                return MoveState.COPIED, fault
        try:
            await self._copy(source, _Target(target, file.mime_type, free), record, told)
        except _Failed as failed:
            untouched = move.item.state is MoveState.PLANNED and not failed.unsure
            state = MoveState.PLANNED if untouched else MoveState.COPYING
            return await self._without_source(target, record, state, failed.problem)
        except ObjectExists:
            return await self._adopt(target, record, MoveState.COPYING)
        fault = await find_fault(self._route.target, target, record, self._method)
        if fault is None:
            return MoveState.VERIFIED, None
        if fault is COPY_MISSING:
            detail = "the store took the copy and has not kept it"
            return MoveState.COPYING, Problem(ProblemKind.COPY_MISSING, detail)
        return MoveState.COPIED, fault

    async def _adopt(self, target: Key, record: Record, state: MoveState) -> tuple[MoveState, Problem | None]:
        """Something is there already: an earlier run's copy, or somebody else's. Only its bytes tell; `state` until they do."""
        fault = await find_fault(self._route.target, target, record, self._method)
        if fault is None:
            return MoveState.VERIFIED, None
        if fault is COPY_DAMAGED:
            return MoveState.PLANNED, OCCUPIED
        return state, fault

    async def _without_source(
        self, target: Key, record: Record, state: MoveState, problem: Problem
    ) -> tuple[MoveState, Problem | None]:
        """A catalogue that was restored from before a clean-up knows nothing of the copy, which is all that there is."""
        gone = problem.kind is ProblemKind.MISSING
        if gone and await find_fault(self._route.target, target, record, self._method) is None:
            return MoveState.VERIFIED, None
        return state, problem

    async def _copy(self, source: Key, target: _Target, record: Record, told: _Told) -> None:
        """Raises `_Failed`, or `ObjectExists` where the target is taken."""
        try:
            async with self._route.source.backend.read_stream(source) as stream:
                if stream.info.size != record.size:
                    raise _Failed(wrong_size(stream.info.size, record.size))
                await self._write(target, stream.chunks, record, told)
        except ObjectExists:
            raise
        except StorageError as error:
            raise _Failed(source_problem(error)) from error

    async def _write(self, target: _Target, chunks: AsyncIterator[bytes], record: Record, told: _Told) -> None:
        digest = Digest()
        reading = self._route.source.backend.name
        try:
            async with self._route.target.backend.write_stream(
                target.key, size=record.size, content_type=target.mime_type, free=target.free
            ) as writer:
                async for chunk in chunks:
                    await self._throttle.take(len(chunk))
                    digest.update(chunk)
                    await writer.write(chunk)
                    told.advance(len(chunk))
                if not digest.fits(record):
                    raise _Failed(DAMAGED)
        except ObjectExists:
            raise
        except StorageError as error:
            problem = source_problem(error) if error.backend == reading else target_problem(error)
            raise _Failed(problem, unsure=problem.kind is ProblemKind.UNAVAILABLE) from error


@dataclass(frozen=True, slots=True)
class _Target:
    """What is to be written where."""

    key: Key
    mime_type: str
    free: bool


class _Told:
    """How many bytes of one file have been told to the progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.size = 0

    def advance(self, size: int) -> None:
        self.size += size
        self._progress.advance(size)
