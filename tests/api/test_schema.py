"""Calls every operation of the API with generated valid and invalid requests: no server error, and no undocumented status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.archive_programs import RUN_SECONDS
from tests.real.chosen import EITHER
from tests.real.notes import Note
from tests.real.sample_media import make_jpeg
from tests.real.stacks import ENGINES
from tests.real.uploads import uploaded

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES, SOAK_EXAMPLES = 3, 200
"""Generated requests for each operation and phase."""
METHODS, SOAK_METHODS = ["PATCH", "TRACE"], ["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"]
"""That are tried where they are not described; 501 is right for those that are not known, such as QUERY."""
COVERAGE = "examples,coverage"
PHASES = (COVERAGE, "fuzzing,stateful")
"""Half of the phases run on one stack; the seed chooses both. `make soak` runs all on both stacks."""
SERIALIZERS = """import schemathesis

schemathesis.serializer.alias(["application/offset+octet-stream", "application/partial-upload"], "application/octet-stream")
"""
COVERED = 5
"""The phase `coverage` tries every value of every field, which takes half a minute of CPU for all paths: outside the long campaigns it runs for
one in five, chosen by the seed."""


@pytest.mark.parametrize("other", EITHER)
def test_every_operation_answers_as_described(
    start_service: StartService,
    other: int,
    tmp_path: Path,
    seed: int,
    soak: bool,
    note: Note,
) -> None:
    engine, phases = ENGINES[(seed + other) % 2], PHASES[seed // 2 % 2]
    service = start_service(engine)
    account = service.people.add(is_admin=True)
    folder = tmp_path / "library"
    folder.mkdir()
    with service.client(account) as client:
        (tmp_path / "schemathesis.toml").write_text(
            _existing(client, folder, SOAK_METHODS if soak else METHODS), encoding="utf-8"
        )

    (tmp_path / "serializers.py").write_text(SERIALIZERS, encoding="utf-8")
    finished = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{service.url}/openapi.json"),
            *("--header", f"x-api-key: {account.key}", "--checks", CHECKS, "--no-color", "--continue-on-failure"),
            *("--phases", ",".join(PHASES) if soak else phases),
            *("--max-examples", str(SOAK_EXAMPLES if soak else EXAMPLES), "--seed", str(seed)),
            *(_some_paths(service.url, seed) if phases == COVERAGE and not soak else ()),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout[-8000:] + finished.stderr[-2000:]
    cases = re.search(r"(\d+) generated, \1 passed", finished.stdout)
    assert cases, finished.stdout[-2000:]
    note(f"generated requests on {engine} ({'all phases' if soak else phases}): {cases[1]} (seed {seed})")
    assert "Traceback" not in service.log


def _some_paths(url: str, seed: int) -> Iterator[str]:
    """Options for every fifth path, from a place that the seed gives."""
    paths = sorted(httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"])
    for path in paths[seed % COVERED :: COVERED]:
        yield from ("--include-path", path)


def _existing(client: httpx.Client, folder: Path, methods: list[str]) -> str:
    """Configuration that puts ids of existing items into the requests, so that they get further than 404."""
    asset = uploaded(client, make_jpeg(), "photo.jpg")
    me = client.get("/api/users/me").json()["id"]
    library = client.post("/api/libraries", json={"ownerId": me, "importPaths": [str(folder)]}).json()["id"]
    token, name = client.post("/api/download/links", json={"assetIds": [asset]}).json()["url"].split("/")[-2:]
    known = {
        "/api/assets/{id}": {"path.id": asset},
        "/api/libraries/{id}": {"path.id": library},
        "/api/users/{id}": {"path.id": me},
        "/api/people/{id}": {"path.id": asset},
        "/api/download/archives": {"path.token": token, "path.name": name},
    }
    phases = f"hooks = 'serializers.py'\n[phases.coverage]\nunexpected-methods = {json.dumps(methods)}\n"
    return phases + "".join(
        f"[[operations]]\ninclude-path-regex = {json.dumps('^' + re.escape(path))}\n"
        f"parameters = {{ {', '.join(f'{json.dumps(field)} = {json.dumps(value)}' for field, value in values.items())} }}\n"
        for path, values in known.items()
    )
