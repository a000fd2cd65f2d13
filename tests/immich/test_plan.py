"""`mediavault immich plan` names and counts what is wrong, changes nothing, and needs no more rights than `docs/immich.md` gives its
role."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.immich.problems import MAX_EXAMPLES
from tests.immich.conftest import MakeInstallation
from tests.immich.installation import Installation
from tests.immich.tables import Generation
from tests.migration.commands import mediavault
from tests.real.service import Service
from tests.real.stacks import Stacks

DOCUMENT = Path(__file__).parents[2] / "docs" / "immich.md"
ROLE = "mediavault_reader"


@pytest.fixture(scope="module")
def service(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Settings for commands; it is not started."""
    return Service(stacks.create("local", tmp_path_factory.mktemp("ours"), database="sqlite"))


@pytest.fixture(scope="module")
def reader_url(installation: Installation) -> Iterator[str]:
    """The address of the database, for the role that the document makes."""
    yield from _make_role(installation)


def _make_role(installation: Installation) -> Iterator[str]:
    (statements,) = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    name = installation.url.partition("?")[0].rpartition("/")[2]
    statements = statements.replace("DATABASE immich ", f"DATABASE {name} ")
    assert f"CREATE ROLE {ROLE}" in statements
    installation.execute(statements)
    yield installation.url.replace("postgres:@", f"{ROLE}:secret@")
    installation.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def plan(service: Service, installation: Installation, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    roots = [f"--media-root={root}" for root in installation.media_roots]
    return mediavault(service, "immich", "plan", "--database-url", url, *roots, *more)


@pytest.fixture(scope="module")
def report(service: Service, installation: Installation, reader_url: str) -> dict[str, Any]:
    before = installation.fingerprint()
    ended = plan(service, installation, reader_url, "--json")
    assert ended.returncode == 0, ended.stderr
    assert installation.fingerprint() == before, "a byte, time or row of Immich's has changed"
    return json.loads(ended.stdout)


def test_it_counts_what_there_is(report: dict[str, Any], installation: Installation) -> None:
    rows = dict(installation.execute("SELECT type, count(*) FROM asset GROUP BY type"))
    assert report["assets"] == rows
    assert (report["users"], report["api_keys"], report["libraries"], report["persons"]) == (2, 2, 1, 2)
    assert report["version"] == ("3.0.1" if installation.is_v3 else "2.5.6")
    assert report["not_taken_over"] == {
        "album": 3, "tag": 2, "shared_link": 1, "memory": 0, "stack": 0, "asset_face": 5,
    }  # fmt: skip
    assert report["refusals"] == []
    deleted = installation.host / "profile" / str(installation.users["gone"])
    images = [path for path in (installation.host / "profile").rglob("*.jpg") if path.parent != deleted]
    assert report["files"]["profile"] == len(images) == 2
    assert report["bytes"]["profile"] == sum(path.stat().st_size for path in images)


def test_it_takes_over_every_asset_whose_file_is_there(report: dict[str, Any], installation: Installation) -> None:
    lost = {"missing file", "outside", "dotdot", "link", "linked folder", "offline"}
    # Beside these: the half removed one, the video of the live photo without a video, and that of a deleted user.
    expected = sum(report["assets"].values()) - len(lost) - 3
    assert sum(report["importable"].values()) == expected
    assert lost <= installation.traps.keys()


EXPECTED = {
    "missing file": 3,  # an original, the video of a live photo, a thumbnail
    "size differs": 1,
    "invalid checksum": 1,
    "path outside the media roots": 1,
    "invalid path": 1,
    "path through a link": 2,
    "path of several rows": 1,
    "checksum conflict": 1,
    "offline asset": 1,
    "half removed asset": 1,
    "live photo without its video": 1,
    "unusable date": 3,
    "deleted user": 1,
    "wrong quota usage": 1,
    "file without a row": 2,  # stray.jpg, and a link to a folder
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_it_counts_and_names_what_is_wrong(report: dict[str, Any], kind: str) -> None:
    found = report["problems"][kind]
    assert found["count"] == EXPECTED[kind], found
    assert len(found["examples"]) == min(EXPECTED[kind], MAX_EXAMPLES)


def test_it_names_the_columns_and_values_of_other_versions(report: dict[str, Any], installation: Installation) -> None:
    problems = report["problems"]
    assert problems["unknown value"]["examples"] == ["asset_file.type 'hologram'"]
    assert "missing column" not in problems
    assert problems.get("unknown column", {}).get("examples", []) == (["asset.invented"] if installation.is_v3 else [])
    assert problems.get("edit that stays with Immich", {}).get("count", 0) == (1 if installation.is_v3 else 0)


def test_the_table_escapes_names_and_is_as_long_as_the_problems(
    service: Service, installation: Installation, reader_url: str
) -> None:
    ended = plan(service, installation, reader_url)
    assert ended.returncode == 0, ended.stderr
    assert "stays with Immich: 3 album, 2 tag, 1 shared_link, 5 asset_face" in ended.stdout
    assert "1  path of several rows" in ended.stdout


def test_the_role_can_change_nothing(reader_url: str) -> None:
    with psycopg.connect(reader_url, autocommit=True) as connection:
        for statement in ("DELETE FROM asset", 'UPDATE "user" SET name = name', "CREATE TABLE mine (id integer)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)  # pyright: ignore[reportArgumentType]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT token FROM session")


def test_an_import_needs_no_more_rights(service: Service, installation: Installation, reader_url: str) -> None:
    roots = [f"--media-root={root}" for root in installation.media_roots]
    ended = mediavault(service, "immich", "import", "--dry-run", "--database-url", reader_url, *roots)
    assert ended.returncode == 0, ended.stderr
    assert "nothing was written" in ended.stdout


def test_a_plan_counts_what_an_import_takes_over(service: Service, make_installation: MakeInstallation) -> None:
    """Without what belongs to a deleted user or to a library that is being removed. Slashes at the ends of folders change nothing."""
    own = make_installation(Generation.V3, assets=20)
    own.execute("UPDATE library SET \"importPaths\" = ARRAY['/mnt/photos/']")
    own.execute(
        "UPDATE system_metadata SET value = jsonb_build_object('location', '/data/') WHERE key = 'MediaLocation'"
    )
    roots = [f"--media-root={root.replace('=', '/=')}/" for root in own.media_roots]

    def report_of(command: str, *more: str) -> dict[str, Any]:
        ended = mediavault(service, "immich", command, "--json", "--database-url", own.url, *roots, *more)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def compare() -> dict[str, Any]:
        planned, imported = report_of("plan"), report_of("import", "--dry-run")
        accounts = ("users", "api_keys", "libraries", "persons")
        assert [planned[name] for name in accounts] == [imported[name] for name in accounts]
        conflicts = sum(planned["problems"][kind]["count"] for kind in ("path of several rows", "checksum conflict"))
        assert sum(planned["importable"].values()) - conflicts == imported["new"]
        assert planned["problems"].keys() - ONLY_PLANNED == imported["problems"].keys()
        return planned

    first = compare()
    assert first["problems"]["invalid path"]["count"] == 1, "the trap's"
    own.execute('UPDATE library SET "deletedAt" = now()')
    second = compare()
    listed = own.execute('SELECT count(*) FROM asset WHERE "libraryId" IS NOT NULL')[0][0]
    assert (second["libraries"], second["problems"]["asset of a library that is being removed"]["count"]) == (0, listed)
    assert first["importable"]["IMAGE"] - second["importable"]["IMAGE"] == listed - 1, "one is missing anyway"


ONLY_PLANNED = {"file without a row", "wrong quota usage", "checksum of the path only", "unknown column"}
"""Problems that are named by a plan only."""


def test_it_says_what_stands_in_the_way_of_an_import(service: Service, make_installation: MakeInstallation) -> None:
    """An interrupted move, a disk that is not mounted, a database without tables, a wrong address."""
    own = make_installation(Generation.V3, assets=10)
    asset = own.plain[0]
    ((path,),) = own.execute('SELECT "originalPath" FROM asset WHERE id = %s', [asset])
    moved = f"{path}.moved.jpg"
    own.to_host(path).rename(own.to_host(moved))
    values = [asset, path, moved]
    own.execute(
        """INSERT INTO move_history ("entityId", "pathType", "oldPath", "newPath") VALUES (%s, 'original', %s, %s)""",
        values,
    )
    ended = plan(service, own, own.url, "--json")
    assert ended.returncode == 1
    assert "1 running or interrupted moves" in ended.stderr
    assert json.loads(ended.stdout)["problems"]["interrupted move"]["count"] == 1

    for marker in own.host.glob("*/.immich"):
        marker.rename(marker.with_name("away"))
    ended = plan(service, own, own.url)
    assert ended.returncode == 1
    assert "is it mounted?" in ended.stderr

    own.execute('DROP TABLE asset_exif; ALTER TABLE asset DROP COLUMN "isFavorite"')
    ended = plan(service, own, own.url, "--json")
    missing = json.loads(ended.stdout)["problems"]["missing column"]["examples"]
    assert "asset.isFavorite" in missing
    assert "asset_exif.make" in missing
    own.execute("DROP TABLE asset_file")
    ended = plan(service, own, own.url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no column asset_file.assetId" in ended.stderr


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("data=/srv", "write absolute paths"),
        ("/data=/srv/../etc", "without '.' and '..'"),
        ("/data=/no/such/folder", "is no folder"),
        ("/data={ours}", "overlaps"),
        ("/data=/", "write absolute paths"),
    ],
)
def test_it_refuses_roots_that_are_none(service: Service, root: str, message: str) -> None:
    service.stack.media.mkdir(parents=True, exist_ok=True)
    root = root.format(ours=service.stack.media)
    ended = mediavault(service, "immich", "plan", "--database-url", "postgresql://x@/none", "--media-root", root)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_it_tells_no_password(service: Service, tmp_path: Path) -> None:
    url = "postgresql://reader:hunter2@127.0.0.1:1/immich"
    ended = mediavault(service, "immich", "plan", "--database-url", url, "--media-root", str(tmp_path))
    assert ended.returncode == 2
    assert "Immich's database" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout
