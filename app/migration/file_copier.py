"""One file's copy: read, hashed on the way, written once, and verified. Decides nothing about other files, and changes no row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.catalog.schema.move_records import CopyOutcome, FileMove, MoveState
from app.catalog.schema.records import File
from app.migration.bandwidth_limit import BandwidthLimit
from app.migration.copy_check import (
    ChecksumDigest,
    RecordedChecksums,
    VerifyMethod,
    find_copy_problem,
    get_recorded_checksums,
)
from app.migration.problems import (
    CHECKSUM_UNRECORDED,
    COPY_DAMAGED,
    COPY_MISSING,
    PLANNED_ELSEWHERE,
    SOURCE_DAMAGED,
    TARGET_OCCUPIED,
    MoveProblem,
    ProblemKind,
    describe_source_error,
    describe_target_error,
    describe_wrong_size,
)
from app.migration.route import MoveRoute
from app.migration.step_progress import MoveProgress
from app.storage.errors import ObjectExists, StorageError
from app.storage.key import Key


class _CopyFailed(Exception):
    """Ends a copy, and with it the write: nothing is committed, unless it is `may_be_stored`, because the store did not answer."""

    def __init__(self, problem: MoveProblem, *, may_be_stored: bool = False) -> None:
        self.problem = problem
        self.may_be_stored = may_be_stored


class FileCopier:
    """Brings files to `verified`. Whose copy is begun must be `copying` in the ledger before, whatever the item that is given says: that
    of one that was `planned` tells that nothing of ours can have been at the target until now."""

    def __init__(
        self, route: MoveRoute, method: VerifyMethod, throttle: BandwidthLimit, progress: MoveProgress
    ) -> None:
        self._route = route
        self._method = method
        self._throttle = throttle
        self._progress = progress

    async def copy_file(self, move: FileMove, file: File, *, skip_exists_check: bool) -> CopyOutcome:
        """How far the file is now. `skip_exists_check`: a listing has shown that nothing is at the target. Never raises a `StorageError`."""
        told = _FileProgress(self._progress)
        try:
            state, problem = await self._copy_and_verify(move, file, told, skip_exists_check)
        finally:
            self._progress.done(max(0, move.item.size - told.size))
        return CopyOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def adopt_copy(self, move: FileMove, file: File) -> CopyOutcome | None:
        """For an item that is `planned`, and something lies at its target: what it is; None where it is gone. Writes nothing."""
        record, target = get_recorded_checksums(file), self._route.target.paths.to_key(move.item.target_path)
        if record is None:
            state, problem = MoveState.PLANNED, CHECKSUM_UNRECORDED
        elif target is None:
            state, problem = MoveState.PLANNED, PLANNED_ELSEWHERE
        else:
            state, problem = await self._check_existing(target, record, MoveState.PLANNED)
        if problem is COPY_MISSING:
            return None
        self._progress.done(move.item.size)
        return CopyOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def _copy_and_verify(
        self, move: FileMove, file: File, file_progress: _FileProgress, skip_exists_check: bool
    ) -> tuple[MoveState, MoveProblem | None]:
        record = get_recorded_checksums(file)
        if record is None:
            return move.item.state, CHECKSUM_UNRECORDED
        source = self._route.source.paths.to_key(move.item.source_path)
        target = self._route.target.paths.to_key(move.item.target_path)
        if source is None or target is None:
            return move.item.state, PLANNED_ELSEWHERE
        if move.item.state is MoveState.COPIED:
            fault = await find_copy_problem(self._route.target, target, record, self._method)
            if fault is None:
                return MoveState.VERIFIED, None
            if fault is not COPY_MISSING:
                return MoveState.COPIED, fault
        try:
            await self._copy(source, _CopyTarget(target, file.mime_type, skip_exists_check), record, file_progress)
        except _CopyFailed as failed:
            untouched = move.item.state is MoveState.PLANNED and not failed.may_be_stored
            state = MoveState.PLANNED if untouched else MoveState.COPYING
            return await self._adopt_without_source(target, record, state, failed.problem)
        except ObjectExists:
            return await self._check_existing(target, record, MoveState.COPYING)
        fault = await find_copy_problem(self._route.target, target, record, self._method)
        if fault is None:
            return MoveState.VERIFIED, None
        if fault is COPY_MISSING:
            detail = "the store took the copy and has not kept it"
            return MoveState.COPYING, MoveProblem(ProblemKind.COPY_MISSING, detail)
        return MoveState.COPIED, fault

    async def _check_existing(
        self, target: Key, recorded: RecordedChecksums, state: MoveState
    ) -> tuple[MoveState, MoveProblem | None]:
        """Something is there already: an earlier run's copy, or somebody else's. Only its bytes tell; `state` until they do."""
        fault = await find_copy_problem(self._route.target, target, recorded, self._method)
        if fault is None:
            return MoveState.VERIFIED, None
        if fault is COPY_DAMAGED:
            return MoveState.PLANNED, TARGET_OCCUPIED
        return state, fault

    async def _adopt_without_source(
        self, target: Key, recorded: RecordedChecksums, state: MoveState, problem: MoveProblem
    ) -> tuple[MoveState, MoveProblem | None]:
        """A catalogue that was restored from before a clean-up knows nothing of the copy, which is all that there is."""
        gone = problem.kind is ProblemKind.MISSING
        if gone and await find_copy_problem(self._route.target, target, recorded, self._method) is None:
            return MoveState.VERIFIED, None
        return state, problem

    async def _copy(
        self, source: Key, target: _CopyTarget, recorded: RecordedChecksums, file_progress: _FileProgress
    ) -> None:
        """Raises `_CopyFailed`, or `ObjectExists` where the target is taken."""
        try:
            async with self._route.source.backend.read_stream(source) as stream:
                if stream.info.size != recorded.size:
                    raise _CopyFailed(describe_wrong_size(stream.info.size, recorded.size))
                await self._write(target, stream.chunks, recorded, file_progress)
        except ObjectExists:
            raise
        except StorageError as error:
            raise _CopyFailed(describe_source_error(error)) from error

    async def _write(
        self,
        target: _CopyTarget,
        chunks: AsyncIterator[bytes],
        recorded: RecordedChecksums,
        file_progress: _FileProgress,
    ) -> None:
        digest = ChecksumDigest()
        reading = self._route.source.backend.name
        try:
            async with self._route.target.backend.write_stream(
                target.key,
                size=recorded.size,
                content_type=target.mime_type,
                skip_exists_check=target.skip_exists_check,
            ) as writer:
                async for chunk in chunks:
                    await self._throttle.take(len(chunk))
                    digest.update(chunk)
                    await writer.write(chunk)
                    file_progress.advance(len(chunk))
                if not digest.matches(recorded):
                    raise _CopyFailed(SOURCE_DAMAGED)
        except ObjectExists:
            raise
        except StorageError as error:
            problem = describe_source_error(error) if error.backend == reading else describe_target_error(error)
            raise _CopyFailed(problem, may_be_stored=problem.kind is ProblemKind.UNAVAILABLE) from error


@dataclass(frozen=True, slots=True)
class _CopyTarget:
    """What is to be written where."""

    key: Key
    mime_type: str
    skip_exists_check: bool


class _FileProgress:
    """How many bytes of one file have been told to the progress."""

    def __init__(self, progress: MoveProgress) -> None:
        self._progress = progress
        self.size = 0

    def advance(self, size: int) -> None:
        self.size += size
        self._progress.advance(size)
