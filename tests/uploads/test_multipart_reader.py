"""`MultipartReader`: parsing of bodies, however they are split into chunks, and refused bodies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.uploads import multipart_reader
from app.uploads.errors import IncompleteBody, MalformedBody
from app.uploads.multipart_reader import FormField, MultipartReader
from tests.uploads.forms import (
    BOUNDARY,
    CONTENT_TYPE,
    FILES,
    Upload,
    body,
    close_form,
    encode_part,
    part,
    read,
    split_at,
)

DELIMITER = f"\r\n--{BOUNDARY}".encode()
NASTY = [
    b"\r",
    b"\n",
    b"\r\n",
    b"-",
    b"--",
    b"\r\n--",
    DELIMITER[:-1],
    DELIMITER + b"x",
    DELIMITER + b"-x",
    b"\0",
    b"jpeg",
]
"""Pieces of file contents that resemble a boundary."""


@settings(max_examples=300)
@given(
    contents=st.lists(st.lists(st.sampled_from(NASTY), max_size=12).map(b"".join), min_size=1, max_size=4),
    cuts=st.lists(st.integers(min_value=1, max_value=2000), max_size=30),
)
def test_any_split_of_the_body_gives_the_same_parts(contents: list[bytes], cuts: list[int]) -> None:
    parts = [Upload(f"file{number}", f"{number}.jpg", data) for number, data in enumerate(contents)]
    whole = body([("before", "1"), *parts, ("after", "2")])

    found = asyncio.run(read(split_at(whole, [cut for cut in cuts if cut < len(whole)])))

    expected = [(one.name, one.filename, one.data) for one in parts]
    assert found == [("before", None, b"1"), *expected, ("after", None, b"2")]


async def test_one_byte_at_a_time() -> None:
    whole = body([("a", "1"), Upload("assetData", "x.jpg", DELIMITER + b"\rfoto\r\n"), ("b", "2")])
    found = await read(split_at(whole, range(len(whole))))
    assert found == [("a", None, b"1"), ("assetData", "x.jpg", DELIMITER + b"\rfoto\r\n"), ("b", None, b"2")]


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ('form-data; name="assetData"; filename="a.jpg"', "assetData", "a.jpg"),
        ("form-data; name=assetData; filename=a.jpg", "assetData", "a.jpg"),
        ('FORM-DATA; NAME="assetData"; FileName="a.jpg"', "assetData", "a.jpg"),
        ('form-data; filename="a.jpg"; name="assetData"', "assetData", "a.jpg"),
        ('form-data; name="assetData"; filename="a;b.jpg"', "assetData", "a;b.jpg"),
        (r'form-data; name="assetData"; filename="say \"hi\".jpg"', "assetData", 'say "hi".jpg'),
        ('form-data; name="assetData"; filename="Übergröße ☕.jpg"', "assetData", "Übergröße ☕.jpg"),
        ('form-data; name="assetData"; filename="Größe.jpg"'.encode("latin-1"), "assetData", "Größe.jpg"),
        ('form-data; name="assetData"; filename=""', "assetData", ""),
        ('form-data; name="assetData"', "assetData", None),
        ("form-data; name=assetData; filename*=UTF-8''na%C3%AFve%20plan.jpg", "assetData", "naïve plan.jpg"),
        ("form-data; name=assetData; filename*=iso-8859-1'en'na%EFve.jpg", "assetData", "naïve.jpg"),
        ("form-data; name=assetData; filename*=rot13''x.jpg", "assetData", None),
        ("form-data; name=assetData; filename=a.jpg; filename*=UTF-8''b.exe", "assetData", "a.jpg"),
        ("form-data; name=assetData; filename*0=a; filename*1=.exe; filename=c.jpg", "assetData", "c.jpg"),
        ("form-data; name*=UTF-8''other; name=assetData; filename=a.jpg", "assetData", "a.jpg"),
        ('form-data; name="assetData"; filename="../../etc/passwd.jpg"', "assetData", "../../etc/passwd.jpg"),
    ],
)
async def test_names_of_parts(disposition: str | bytes, name: str, filename: str | None) -> None:
    assert await read([close_form(part(disposition, b"x"))]) == [(name, filename, b"x")]


async def test_a_name_of_five_thousand_characters_is_read_whole() -> None:
    name = "ä" * 5000 + ".jpg"
    found = await read([body([Upload("assetData", name, b"x")])])
    assert found[0][1] == name


@pytest.mark.parametrize(
    "content_type",
    [
        f"multipart/form-data; boundary={BOUNDARY}",
        f'multipart/form-data; boundary="{BOUNDARY}"',
        f"Multipart/Form-Data; charset=utf-8; Boundary={BOUNDARY}; x",
        f'multipart/form-data; x="a;boundary=b"; boundary={BOUNDARY}',
        f"multipart/form-data;boundary={BOUNDARY};",
        f"multipart/form-data ; boundary = {BOUNDARY}",
    ],
)
async def test_ways_to_write_the_content_type(content_type: str) -> None:
    assert await read([body([("a", "1")])], content_type) == [("a", None, b"1")]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        f"multipart/mixed; boundary={BOUNDARY}",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=a\rb",
        "multipart/form-data; boundary=ä",
        "multipart/form-data; boundary=☕",
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/form-data; boundary=x" + '; a="' * 10_000,
    ],
)
async def test_content_types_of_no_use(content_type: str | None) -> None:
    with pytest.raises(MalformedBody):
        await read([body([("a", "1")])], content_type)


WHOLE = body([("a", "1"), Upload("assetData", "x.jpg", b"photo"), ("b", "2")])


@pytest.mark.parametrize("length", range(0, len(WHOLE) - 2, 7))
async def test_a_body_that_ends_early(length: int) -> None:
    with pytest.raises(IncompleteBody):
        await read([WHOLE[:length]] if length else [])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(WHOLE.replace(BOUNDARY.encode(), b"another"), id="another boundary"),
        pytest.param(b"not multipart at all", id="no boundary"),
        pytest.param(
            close_form(part('form-data; name="a"', b"1").replace(b"Content-D", b"Content D")), id="bad header name"
        ),
        pytest.param(close_form(f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\n1".encode()), id="no disposition"),
        pytest.param(close_form(part("attachment; name=a", b"1")), id="other disposition"),
        pytest.param(close_form(part("form-data", b"1")), id="no name"),
        pytest.param(
            close_form(part("form-data; name=a", b"1", "Content-Disposition: form-data; name=b")), id="two dispositions"
        ),
        pytest.param(close_form(part("form-data; name=a", b"MQ==", "Content-Transfer-Encoding: base64")), id="base64"),
        pytest.param(
            close_form(part("form-data; name=a", b"1", *(f"X-{n}: 1" for n in range(20)))), id="too many headers"
        ),
        pytest.param(close_form(part("form-data; name=a", b"1", "X: " + "1" * 40_000)), id="header too large"),
        pytest.param(body([("a", "")] * (multipart_reader.MAX_PARTS + 1)), id="too many parts"),
        pytest.param(body([("a", "1" * (multipart_reader.MAX_FIELD_BYTES + 1))]), id="field too large"),
        pytest.param(body([(name, "1" * 900_000) for name in "abc"]), id="fields too large together"),
        pytest.param(b"\r\n" * 50_000 + WHOLE, id="preamble"),
        pytest.param(WHOLE + b"x" * 100_000, id="epilogue"),
    ],
)
async def test_refused_bodies(broken: bytes) -> None:
    with pytest.raises(MalformedBody):
        await read(split_at(broken, range(0, len(broken), 4096)))


async def test_padding_around_the_parts_is_skipped() -> None:
    padded_boundary = encode_part(("b", "2")).replace(BOUNDARY.encode(), BOUNDARY.encode() + b" \t", 1)
    whole = b"\r\n" + close_form(encode_part(("a", "1")), padded_boundary) + b"an epilogue\r\n"
    assert await read([whole]) == [("a", None, b"1"), ("b", None, b"2")]


async def test_an_empty_form() -> None:
    assert await read([close_form()]) == []


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(
            b"\r\n" * 8_000_000, id="CVE-2024-53981 and CVE-2026-40347: line breaks before the first boundary"
        ),
        pytest.param(
            WHOLE + b"\r\n" * 8_000_000, id="CVE-2024-53981 and CVE-2026-40347: bytes after the last boundary"
        ),
        pytest.param(f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 2_000_000, id="CVE-2026-42561: headers without end"),
        pytest.param(f"--{BOUNDARY}\r\na: ".encode() + b"b" * 16_000_000, id="CVE-2026-42561: one endless header"),
        pytest.param(f"--{BOUNDARY}\r\n".encode() + b"a" * 16_000_000, id="one endless header name"),
    ],
)
async def test_floods_are_refused_after_a_bounded_part_of_them(flood: bytes) -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for start in range(0, len(flood), 65536):
            taken += 65536
            yield flood[start : start + 65536]

    with pytest.raises(MalformedBody):
        async for _ in MultipartReader(CONTENT_TYPE, chunks()).iter_parts():
            pass
    assert taken <= 4 * 65536


async def test_a_file_of_boundary_beginnings_takes_linear_time() -> None:
    async def seconds(size: int) -> float:
        started = time.process_time()
        await read(split_at(body([Upload("a", "a", b"\r\n--" * (size // 4))]), range(0, size, 65536)))
        return time.process_time() - started

    small = min([await seconds(500_000) for _ in range(3)])
    large = min([await seconds(4_000_000) for _ in range(3)])
    assert large < 8 * 4 * small


async def test_files_share_the_memory_of_the_chunks_and_one_chunk_is_held_at_a_time() -> None:
    file = b"x" * 1_000_000
    chunks = split_at(body([Upload("assetData", "a.jpg", file)]), range(0, 1_100_000, 65536))
    handed_out = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal handed_out
        for chunk in chunks:
            handed_out += 1
            yield chunk

    seen = 0
    async for one in MultipartReader(CONTENT_TYPE, source()).iter_parts():
        assert not isinstance(one, FormField)
        async for view in one.chunks:
            assert view.obj is chunks[handed_out - 1]
            seen += len(view)
    assert seen == len(file)


async def test_what_is_left_of_a_file_is_skipped() -> None:
    whole = body([Upload("unknown", "a.bin", b"x" * 300_000), ("b", "2"), Upload("assetData", "c.jpg", b"y")])
    names: list[str] = []
    async for one in MultipartReader(CONTENT_TYPE, _cut(whole), file_fields=FILES).iter_parts():
        names.append(one.name)
        if not isinstance(one, FormField):
            async for _ in one.chunks:
                break
    assert names == ["unknown", "b", "assetData"]


async def _cut(whole: bytes) -> AsyncIterator[bytes]:
    for piece in split_at(whole, range(0, len(whole), 1000)):
        yield piece
