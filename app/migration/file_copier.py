"""`FileCopier`: copies one file to the target, hashes it meanwhile, and verifies the copy. Changes no row of the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.catalog.schema.move_records import CopyOutcome, MoveItemWithFile, MoveState
from app.catalog.schema.records import File
from app.migration.bandwidth_limit import BandwidthLimit
from app.migration.copy_check import (
    ContentHasher,
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
from app.migration.source_and_target import MoveRoute
from app.migration.step_progress import MoveProgress
from app.storage.backend import ObjectStream
from app.storage.errors import ObjectExists, StorageError
from app.storage.key import Key
from app.storage.service import StorageService


class _CopyFailed(Exception):
    """Aborts a copy and its write. `may_be_stored`: the store did not answer, so the object may exist nevertheless."""

    def __init__(self, problem: MoveProblem, *, may_be_stored: bool = False) -> None:
        self.problem = problem
        self.may_be_stored = may_be_stored


class FileCopier:
    """Copies files until they are `verified`. Before a copy begins, its item must be `copying` in the ledger. The item passed in keeps its
    previous state: `planned` means that this move has written nothing at the target so far."""

    def __init__(
        self,
        storage: StorageService,
        route: MoveRoute,
        method: VerifyMethod,
        throttle: BandwidthLimit,
        progress: MoveProgress,
    ) -> None:
        self._storage = storage
        self._route = route
        self._method = method
        self._throttle = throttle
        self._progress = progress

    async def copy_file(self, move: MoveItemWithFile, file: File, *, skip_exists_check: bool) -> CopyOutcome:
        """The state of the file afterwards. `skip_exists_check`: a listing has shown that the target is free. Never raises a
        `StorageError`."""
        file_progress = _FileProgress(self._progress)
        try:
            state, problem = await self._copy_and_verify(move, file, file_progress, skip_exists_check)
        finally:
            self._progress.done(max(0, move.item.size - file_progress.size))
        return CopyOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def adopt_copy(self, move: MoveItemWithFile, file: File) -> CopyOutcome | None:
        """Checks the object that lies at the target of a `planned` item, and adopts it as the copy where its bytes are right; None where
        it no longer exists. Writes nothing."""
        recorded, target = get_recorded_checksums(file), self._route.target.paths.to_key(move.item.target_path)
        if recorded is None:
            state, problem = MoveState.PLANNED, CHECKSUM_UNRECORDED
        elif target is None:
            state, problem = MoveState.PLANNED, PLANNED_ELSEWHERE
        else:
            state, problem = await self._check_existing(target, recorded, MoveState.PLANNED)
        if problem is COPY_MISSING:
            return None
        self._progress.done(move.item.size)
        return CopyOutcome(move.item.file_id, state, None if problem is None else str(problem))

    async def _copy_and_verify(
        self, move: MoveItemWithFile, file: File, file_progress: _FileProgress, skip_exists_check: bool
    ) -> tuple[MoveState, MoveProblem | None]:
        recorded = get_recorded_checksums(file)
        if recorded is None:
            return move.item.state, CHECKSUM_UNRECORDED
        opened = self._open_source(move, file)
        target = self._route.target.paths.to_key(move.item.target_path)
        if opened is None or target is None:
            return move.item.state, PLANNED_ELSEWHERE
        if move.item.state is MoveState.COPIED:
            copy_problem = await find_copy_problem(self._route.target, target, recorded, self._method)
            if copy_problem is None:
                return MoveState.VERIFIED, None
            if copy_problem is not COPY_MISSING:
                return MoveState.COPIED, copy_problem
        try:
            await self._copy(opened, _CopyTarget(target, file.mime_type, skip_exists_check), recorded, file_progress)
        except _CopyFailed as failed:
            untouched = move.item.state is MoveState.PLANNED and not failed.may_be_stored
            state = MoveState.PLANNED if untouched else MoveState.COPYING
            return await self._adopt_without_source(target, recorded, state, failed.problem)
        except ObjectExists:
            return await self._check_existing(target, recorded, MoveState.COPYING)
        copy_problem = await find_copy_problem(self._route.target, target, recorded, self._method)
        if copy_problem is None:
            return MoveState.VERIFIED, None
        if copy_problem is COPY_MISSING:
            detail = "the store took the copy and has not kept it"
            return MoveState.COPYING, MoveProblem(ProblemKind.COPY_MISSING, detail)
        return MoveState.COPIED, copy_problem

    async def _check_existing(
        self, target: Key, recorded: RecordedChecksums, state: MoveState
    ) -> tuple[MoveState, MoveProblem | None]:
        """Checks an existing object at the target: a copy of an earlier run, or a foreign object. Only its bytes decide. `state` is the
        result where they cannot be checked."""
        copy_problem = await find_copy_problem(self._route.target, target, recorded, self._method)
        if copy_problem is None:
            return MoveState.VERIFIED, None
        if copy_problem is COPY_DAMAGED:
            return MoveState.PLANNED, TARGET_OCCUPIED
        return state, copy_problem

    async def _adopt_without_source(
        self, target: Key, recorded: RecordedChecksums, state: MoveState, problem: MoveProblem
    ) -> tuple[MoveState, MoveProblem | None]:
        """Adopts a good copy whose source is missing or damaged: a catalogue restored from a backup made before a clean-up still names the
        source, which the clean-up has removed; and a copy that an earlier run has not recorded may be the only good one."""
        is_source_lost = problem.kind in (ProblemKind.MISSING, ProblemKind.DAMAGED, ProblemKind.SIZE)
        if is_source_lost and await find_copy_problem(self._route.target, target, recorded, self._method) is None:
            return MoveState.VERIFIED, None
        return state, problem

    def _open_source(self, move: MoveItemWithFile, file: File) -> AbstractAsyncContextManager[ObjectStream] | None:
        """A read of the source; None where it does not lie at the source's location. A foreign file is read where it lies now."""
        if file.is_foreign:
            return self._storage.read_foreign_source(file.path)
        source = self._route.source.paths.to_key(move.item.source_path)
        return None if source is None else self._route.source.backend.read_stream(source)

    async def _copy(
        self,
        opened: AbstractAsyncContextManager[ObjectStream],
        target: _CopyTarget,
        recorded: RecordedChecksums,
        file_progress: _FileProgress,
    ) -> None:
        """Raises `_CopyFailed`, or `ObjectExists` where the target is taken."""
        try:
            async with opened as stream:
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
        digest = ContentHasher()
        target_backend = self._route.target.backend.name
        try:
            async with self._route.target.backend.write_stream(
                target.key,
                size=recorded.size,
                content_type=target.mime_type,
                skip_exists_check=target.skip_exists_check,
            ) as writer:
                async for chunk in chunks:
                    await self._throttle.acquire(len(chunk))
                    digest.update(chunk)
                    await writer.write(chunk)
                    file_progress.advance(len(chunk))
                if not digest.matches(recorded):
                    raise _CopyFailed(SOURCE_DAMAGED)
        except ObjectExists:
            raise
        except StorageError as error:
            problem = describe_target_error(error) if error.backend == target_backend else describe_source_error(error)
            raise _CopyFailed(problem, may_be_stored=problem.kind is ProblemKind.UNAVAILABLE) from error


@dataclass(frozen=True, slots=True)
class _CopyTarget:
    """Key, type and write option of the target."""

    key: Key
    mime_type: str
    skip_exists_check: bool


class _FileProgress:
    """Counts the bytes of one file that were reported to the progress."""

    def __init__(self, progress: MoveProgress) -> None:
        self._progress = progress
        self.size = 0

    def advance(self, size: int) -> None:
        self.size += size
        self._progress.advance(size)
