"""`mediavault library`: manages and scans external libraries, under the same rules as the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from app.catalog.catalog import Catalog
from app.catalog.schema.library_records import Library, LibraryChanges, ScanReport
from app.cli.command_runner import (
    call_with_catalog,
    fail,
    find_user,
    load_settings_with_logging,
    print_table,
    run_command,
)
from app.libraries.errors import LibraryError
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS

if TYPE_CHECKING:
    from app.libraries.service import LibraryService

T = TypeVar("T")

library_cli = typer.Typer(no_args_is_help=True, help="External libraries: folders that stay where they are, read-only.")

LibraryId = Annotated[UUID, typer.Argument(help="The id that `library list` shows.")]


@library_cli.command("add")
def library_add(
    email: Annotated[str, typer.Argument(help="Whose library it is: an address or an id.")],
    import_path: Annotated[list[str], typer.Argument(help="Absolute paths of its folders.")],
    name: Annotated[str, typer.Option(help="What it is called.")] = "New External Library",
    exclude: Annotated[
        list[str] | None, typer.Option(help="A glob of what to leave out, in place of the usual ones. Repeatable.")
    ] = None,
) -> None:
    """Add a library. Nothing is read before a scan."""

    async def add(libraries: LibraryService, catalog: Catalog) -> Library:
        owner = await find_user(catalog, email)
        patterns = DEFAULT_EXCLUSIONS if exclude is None else exclude
        return await libraries.create(owner.id, name, import_path, patterns)

    typer.echo(_run_with_libraries(add).id)


@library_cli.command("list")
def library_list() -> None:
    """List the libraries, and whether they are there."""

    async def list_rows(libraries: LibraryService, catalog: Catalog) -> list[tuple[str, ...]]:
        _ = libraries
        counts = await catalog.counts.count_by_library()
        return [_format_library_row(each, counts.get(each.id, 0)) for each in await catalog.libraries.list()]

    print_table(("id", "name", "state", "assets", "scanned", "import paths"), _run_with_libraries(list_rows))


@library_cli.command("update")
def library_update(
    library_id: LibraryId,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    import_path: Annotated[list[str] | None, typer.Option(help="In place of all it had. Repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="In place of all it had. Repeatable.")] = None,
) -> None:
    """Change a library; what is not given stays. Takes effect with the next scan."""
    changes = LibraryChanges()
    if name is not None:
        changes["name"] = name
    if import_path:
        changes["import_paths"] = tuple(import_path)
    if exclude:
        changes["exclusion_patterns"] = tuple(exclude)

    async def update(libraries: LibraryService, catalog: Catalog) -> None:
        _ = catalog
        if await libraries.update(library_id, changes) is None:
            fail(f"there is no library {library_id}")

    _run_with_libraries(update)


@library_cli.command("remove")
def library_remove(library_id: LibraryId) -> None:
    """Remove a library from the catalogue, and what was made from its files. The files themselves are never touched."""

    async def remove(libraries: LibraryService, catalog: Catalog) -> int:
        # `get` does not find a library whose removal was interrupted; `list` does.
        if library_id not in {each.id for each in await catalog.libraries.list()}:
            fail(f"there is no library {library_id}")
        return await libraries.remove_and_wait(library_id)

    typer.echo(f"{_run_with_libraries(remove)} assets removed")


@library_cli.command("validate")
def library_validate(library_id: LibraryId) -> None:
    """Check the import paths of a library."""

    async def check(libraries: LibraryService, catalog: Catalog) -> list[str]:
        library = await catalog.libraries.get(library_id)
        if library is None:
            fail(f"there is no library {library_id}")
        checked = await libraries.check_import_paths(library.import_paths, library_id)
        return [each.rejection_reason for each in checked if each.rejection_reason is not None]

    faults = _run_with_libraries(check)
    if faults:
        fail("; ".join(faults), status=1)
    typer.echo("all import paths are well")


@library_cli.command("statistics")
def library_statistics(library_id: LibraryId) -> None:
    """Count what is in a library."""

    async def count(libraries: LibraryService, catalog: Catalog) -> tuple[str, ...]:
        _ = libraries
        if await catalog.libraries.get(library_id) is None:
            fail(f"there is no library {library_id}")
        usage = await catalog.libraries.get_usage(library_id)
        return tuple(map(str, (usage.photos, usage.videos, usage.total, usage.usage)))

    print_table(("photos", "videos", "total", "bytes"), [_run_with_libraries(count)])


@library_cli.command("scan")
def library_scan(
    library_id: Annotated[UUID | None, typer.Argument(help="All libraries without it.")] = None,
    accept_missing: Annotated[
        bool,
        typer.Option(
            "--accept-missing",
            help="What is missing was deleted, however much it looks like a disk that is away: into the trash with it.",
        ),
    ] = False,
) -> None:
    """Look through a library and take in what is new. Ends with status 1 where a library looks unmounted."""

    async def scan(libraries: LibraryService, catalog: Catalog) -> list[tuple[Library, ScanReport]]:
        present = [each for each in await catalog.libraries.list() if each.deleted_at is None]
        selected = [each for each in present if each.id == library_id or (library_id is None and not each.is_foreign)]
        if library_id is not None and not selected:
            fail(f"there is no library {library_id}")
        return [(each, await _scan_with_progress(libraries, each, accept_missing=accept_missing)) for each in selected]

    reports = _run_with_libraries(scan)
    columns = ("library", "found", "new", "changed", "renamed", "back", "trashed", "unreadable", "seconds")
    print_table(columns, [_format_scan_row(library, report) for library, report in reports])
    for _, report in reports:
        for line in report.unreadable:
            typer.echo(f"unreadable: {line}", err=True)
        if report.unreadable_count > len(report.unreadable):
            typer.echo(f"unreadable: {report.unreadable_count - len(report.unreadable)} more", err=True)
    refused = [f"{library.name}: {report.refused}" for library, report in reports if report.refused]
    if refused:
        fail(f"nothing goes to the trash, it looks unmounted: {'; '.join(refused)}", status=1)


async def _scan_with_progress(libraries: LibraryService, library: Library, *, accept_missing: bool) -> ScanReport:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # The number of files of the last scan is the best estimate of the total.
        task = bar.add_task(library.name, total=library.files or None)

        def show(report: ScanReport) -> None:
            bar.update(task, completed=report.found)

        return await libraries.scan(library.id, accept_missing=accept_missing, on_progress=show)


def _run_with_libraries(work: Callable[[LibraryService, Catalog], Awaitable[T]]) -> T:
    from app.libraries.service import LibraryService  # noqa: PLC0415 - slow to import

    settings = load_settings_with_logging()

    async def use(catalog: Catalog) -> T:
        libraries = LibraryService(catalog, settings)
        try:
            return await work(libraries, catalog)
        except LibraryError as error:
            fail(str(error))
        finally:
            libraries.close()

    done: Any = run_command(call_with_catalog(settings, use))
    return done


def _format_library_row(library: Library, assets: int) -> tuple[str, ...]:
    state = "being removed" if library.deleted_at else library.state.value
    scanned = f"{library.scanned_at:%Y-%m-%d %H:%M}" if library.scanned_at else "never"
    return str(library.id), library.name, state, str(assets), scanned, ", ".join(library.import_paths)


def _format_scan_row(library: Library, report: ScanReport) -> tuple[str, ...]:
    numbers = (report.found, report.new, report.changed, report.renamed, report.back, report.trashed)
    return library.name, *map(str, numbers), str(report.unreadable_count), f"{report.seconds:g}"
