"""The catalogue's paths: translation to keys and back, and invalid paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.errors import InvalidKey
from app.storage.key import Key
from app.storage.path import BucketPaths, LocalPaths, check_local_path, parse_s3_uri

AREAS = [LocalPaths("/data"), LocalPaths("/"), BucketPaths("bucket", ""), BucketPaths("bucket", "some/prefix")]


@pytest.mark.parametrize(
    ("root", "path", "key"),
    [
        ("/data", "/data/a/b.jpg", "a/b.jpg"),
        ("/data/", "/data/a", "a"),
        ("/", "/a", "a"),
        ("/data", "/database/a", None),
        ("/data", "/dat", None),
        ("/data", "/data", None),
        ("/data", "/other/data/a", None),
        ("/data", "s3://data/a", None),
    ],
)
def test_what_lies_below_the_media_folder(root: str, path: str, key: str | None) -> None:
    area = LocalPaths(root)
    assert area.to_key(path) == (Key(key) if key else None)
    assert area.contains(path) is (key is not None)


@pytest.mark.parametrize(
    ("prefix", "path", "key"),
    [
        ("", "s3://bucket/a/b", "a/b"),
        ("", "s3://bucket2/a", None),
        ("", "s3://bucke/a", None),
        ("p", "s3://bucket/p/a", "a"),
        ("p", "s3://bucket/pq/a", None),
        ("p", "s3://bucket/a", None),
        ("p/q", "s3://bucket/p/q/a", "a"),
        ("p", "s3://bucket/p/a%20b+c", "a%20b+c"),
        ("p", "/bucket/p/a", None),
    ],
)
def test_what_lies_below_bucket_and_prefix(prefix: str, path: str, key: str | None) -> None:
    area = BucketPaths("bucket", prefix)
    assert area.to_key(path) == (Key(key) if key else None)
    assert area.contains(path) is (key is not None)


@pytest.mark.parametrize("path", ["/data/../etc/passwd", "/data//a", "/data/a/", "/data/./a", "/data/a\nb"])
def test_a_path_below_the_folder_that_is_no_key_is_refused(path: str) -> None:
    with pytest.raises(InvalidKey):
        LocalPaths("/data").to_key(path)


@pytest.mark.parametrize("area", AREAS)
@given(key=st.text(min_size=1, max_size=30))
def test_a_key_comes_back_from_its_path(area: LocalPaths | BucketPaths, key: str) -> None:
    try:
        valid = Key(key)
    except InvalidKey:
        return
    assert area.to_key(area.to_path(valid)) == valid


@pytest.mark.parametrize(
    "path", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "S3://bucket/key", "http://b/k", "/a"]
)
def test_what_is_no_s3_uri(path: str) -> None:
    with pytest.raises(InvalidKey):
        parse_s3_uri(path)


def test_an_s3_uri_is_taken_verbatim() -> None:
    assert parse_s3_uri("s3://bucket/a%2Fb c?d#e/f") == ("bucket", "a%2Fb c?d#e/f")


@pytest.mark.parametrize(
    "path", ["", "a/b", "./a", "/", "/a/../b", "/a//b", "//a", "/a/", "/a\0b", "file:///a", "/a\ud800"]
)
def test_a_local_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(InvalidKey):
        check_local_path(path)


@pytest.mark.parametrize("path", ["/a", "/a/b c#?%.jpg", "/a\\b", "/caf\udce9"])
def test_a_plain_local_path_is_taken_as_it_is(path: str) -> None:
    assert check_local_path(path) == path
