"""The page and its files as HTTP delivers them: caching, compression, conditions and the fields that restrict the page."""

from __future__ import annotations

import asyncio
import gzip
import re
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from app.api.web.routes import build_security_headers
from app.api.web.static_files import StaticFiles, accepts_gzip, read_files
from app.config import Settings
from tests.api.start_service import StartService
from tests.real.chosen import stack

__all__ = ["stack"]

MOST_BYTES = 200_000
VIEWS = ("/", "/photos/0b3f1c9d-2e3a-4b5c-8d6e-7f8091a2b3c4", "/trash", "/administration", "/sign-in")


@pytest.fixture
def module(anonymous: httpx.Client) -> str:
    """The path of the page's first script."""
    found = re.search(r'<script type="module" src="([^"]+)">', anonymous.get("/").text)
    assert found
    return found[1]


def test_every_view_opens_the_same_page(anonymous: httpx.Client) -> None:
    pages = [anonymous.get(path) for path in VIEWS]

    assert {page.status_code for page in pages} == {200}
    assert len({page.content for page in pages}) == 1
    assert {page.headers["content-type"] for page in pages} == {"text/html; charset=utf-8"}
    assert {page.headers["cache-control"] for page in pages} == {"no-cache"}


def test_what_the_page_refers_to_is_there_and_kept_for_ever(anonymous: httpx.Client) -> None:
    page = anonymous.get("/").text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)

    assert "{version}" not in page
    assert addresses
    for address in addresses:
        answer = anonymous.get(address)
        assert re.match(r"/web/[0-9a-f]{16}/", address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_is_restricted_to_what_this_service_serves(anonymous: httpx.Client, module: str) -> None:
    for path in ("/", module):
        headers = anonymous.get(path).headers
        policy = headers["content-security-policy"]
        rules = {name: set(sources) for name, *sources in (rule.split() for rule in policy.split(";"))}

        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == {"'none'"}
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == {"'self'"}
        assert set().union(*rules.values()) <= {"'none'", "'self'", "data:", "blob:"}
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "*", "identity", "gzip;q=0", ""])
def test_a_script_comes_in_an_encoding_that_is_accepted(anonymous: httpx.Client, module: str, accepted: str) -> None:
    plain = anonymous.get(module, headers={"accept-encoding": "identity"})
    with anonymous.stream("GET", module, headers={"accept-encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())

    is_packed = accepted in ("gzip", "br, gzip;q=0.5", "*")
    assert (answer.headers.get("content-encoding") == "gzip") is is_packed
    assert (gzip.decompress(raw) if is_packed else raw) == plain.content
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(raw)
    assert (answer.headers["etag"] == plain.headers["etag"]) is not is_packed
    assert re.fullmatch(r'"[^"]+"', answer.headers["etag"])


def test_what_the_browser_has_is_not_sent_again(anonymous: httpx.Client, module: str) -> None:
    for path in ("/", module):
        for accepted in ("gzip", "identity"):
            headers = {"accept-encoding": accepted}
            first = anonymous.get(path, headers=headers)
            again = anonymous.get(path, headers=headers | {"if-none-match": f'"other", W/{first.headers["etag"]}'})
            other = anonymous.get(path, headers=headers | {"if-none-match": '"other"'})

            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
            assert again.headers["cache-control"] == first.headers["cache-control"]
            assert other.status_code == 200


def test_head_answers_like_get_without_the_body(anonymous: httpx.Client, module: str) -> None:
    for path in ("/", module):
        whole, head = anonymous.get(path), anonymous.head(path)

        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-length", "content-type", "etag", "content-encoding"):
            assert head.headers.get(name) == whole.headers.get(name)


def test_other_methods_are_refused(anonymous: httpx.Client, module: str) -> None:
    for path in (*VIEWS, module):
        refused = anonymous.post(path)

        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
        assert refused.json()["statusCode"] == 405


def test_other_names_and_versions_are_not_there(anonymous: httpx.Client, module: str) -> None:
    version = module.split("/")[2]
    names = ["__init__.py", "scripts", "scripts/none.js", "..%2f..%2fapi%2ferrors.py", "%2e%2e/errors.py", "index.html"]
    for path in (*(f"/web/{version}/{name}" for name in names), module.replace(version, "0" * 16), "/web", "/photos"):
        answer = anonymous.get(path)

        assert answer.status_code == 404, path
        assert answer.json()["statusCode"] == 404
        assert "immutable" not in answer.headers.get("cache-control", "")


def test_a_changed_file_changes_the_version_and_the_page(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "index.html").write_text('<script src="/web/{version}/scripts/main.js"></script>')
    (tmp_path / "scripts" / "main.js").write_text("let a = 1;")
    before, same = StaticFiles.create(read_files(tmp_path)), StaticFiles.create(read_files(tmp_path))
    (tmp_path / "scripts" / "main.js").write_text("let a = 2;")
    after = StaticFiles.create(read_files(tmp_path))

    assert (before.version, before.index.plain.etag) == (same.version, same.index.plain.etag)
    assert before.version != after.version
    assert before.index.plain.etag != after.index.plain.etag
    assert f"/web/{after.version}/".encode() in after.index.plain.body


def test_the_page_is_small() -> None:
    """What is sent of all its files, before gzip."""
    static = StaticFiles.create(read_files(files("app.web")))
    assert sum(len(file.plain.body) for file in (static.index, *static.files.values())) < MOST_BYTES


def test_a_file_of_an_unknown_type_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / "notes.docx").write_text("")
    with pytest.raises(ValueError, match=r"notes\.docx"):
        StaticFiles.create(read_files(tmp_path))


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br;q=1.0, gzip; q=0.2", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0.000, *", False),
        ("gzip;q=0.001", True),
        ("gzip;q=1", True),
        ("gzip;q=10", True),
        ("br", False),
        ("identity", False),
        ("", False),
        (",;,=", False),
        ("gzipped", False),
    ],
)
def test_whether_gzip_is_accepted(field: str, accepted: bool) -> None:
    assert accepts_gzip(field) is accepted


@pytest.mark.parametrize(
    ("endpoint", "path_style", "source"),
    [
        ("https://s3.example.org:9000/", None, "https://s3.example.org:9000"),
        ("https://s3.example.org", False, "https://*.s3.example.org"),
        (None, None, "https://*.amazonaws.com https://*.amazonaws.com.cn"),
    ],
)
def test_pictures_may_come_from_the_store_where_links_lead_there(
    endpoint: str | None, path_style: bool | None, source: str
) -> None:
    values = {"IMMICH_STORAGE_ENGINE": "s3", "S3_BUCKET": "photos", "S3_DELIVERY": "redirect"}
    if endpoint:
        values["S3_ENDPOINT"] = endpoint
    if path_style is not None:
        values["S3_FORCE_PATH_STYLE"] = str(path_style)
    policy = build_security_headers(Settings(**values))["content-security-policy"]  # pyright: ignore[reportArgumentType]

    assert f"img-src 'self' blob: data: {source};" in policy
    assert f"media-src 'self' blob: {source};" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy


async def test_first_requests_at_the_same_time_get_the_same_page(start_service: StartService) -> None:
    service = start_service("local")
    async with service.async_client() as client:
        pages = await asyncio.gather(*(client.get("/") for _ in range(8)))

    assert {page.status_code for page in pages} == {200}
    assert len({page.headers["etag"] for page in pages}) == 1
