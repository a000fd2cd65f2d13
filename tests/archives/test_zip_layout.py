"""`ZipLayout`: properties of its pieces (hypothesis), zip64 limits, and independent readers that unpack the result."""

import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.archives.zip_layout import (
    DescriptorPlaceholder,
    DirectoryPlaceholder,
    LiteralBytes,
    MemberBytes,
    ZipEntry,
    ZipLayout,
    ZipPiece,
)
from app.storage.ranges import ByteRange

NOON = datetime(2024, 5, 6, 12, 34, 57, tzinfo=UTC)
GIBIBYTE = 1024**3


def rendered(layout: ZipLayout, contents: Sequence[bytes], pieces: Sequence[ZipPiece] | None = None) -> bytes:
    """The archive's bytes, assembled from the pieces as a transfer does it."""
    out = io.BytesIO()
    crcs: dict[int, int] = {}
    for piece in layout.iter_pieces() if pieces is None else pieces:
        if isinstance(piece, LiteralBytes):
            out.write(piece.data)
        elif isinstance(piece, MemberBytes):
            assert piece.span.last is not None
            out.write(contents[piece.index][piece.span.first : piece.span.last + 1])
        elif isinstance(piece, DescriptorPlaceholder):
            crcs[piece.index] = zlib.crc32(contents[piece.index])
            out.write(layout.build_descriptor(piece.index, crcs[piece.index]))
        else:
            out.write(layout.build_directory(crcs))
    return out.getvalue()


def entry(name: str, content: bytes, *, known: bool = True, modified: datetime = NOON) -> ZipEntry:
    return ZipEntry(name, len(content), zlib.crc32(content) if known else None, modified)


contents_of_archives = st.lists(st.binary(max_size=300), max_size=12)
moments = st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


@st.composite
def archives(draw: st.DrawFn, *, known: bool = True) -> tuple[ZipLayout, list[bytes]]:
    contents = draw(contents_of_archives)
    entries = [
        entry(f"{index} é.jpg", content, known=known or draw(st.booleans()), modified=draw(moments))
        for index, content in enumerate(contents)
    ]
    return ZipLayout(entries), contents


@given(archives(known=False))
def test_pieces_cover_the_archive_without_gap_or_overlap(archive: tuple[ZipLayout, list[bytes]]) -> None:
    layout, _ = archive
    assert_no_gap(layout)


def assert_no_gap(layout: ZipLayout) -> None:
    end = 0
    for piece in layout.iter_pieces():
        assert piece.offset == end
        assert piece.length > 0
        end += piece.length
    assert end == layout.size


@given(archives(), st.data())
def test_any_range_equals_the_slice_of_the_whole(archive: tuple[ZipLayout, list[bytes]], data: st.DataObject) -> None:
    layout, contents = archive
    whole = rendered(layout, contents)
    first = data.draw(st.integers(0, layout.size - 1))
    last = data.draw(st.one_of(st.none(), st.integers(first, layout.size + 5)))
    pieces = list(layout.iter_pieces(ByteRange(first, last)))
    assert rendered(layout, contents, pieces) == whole[first : None if last is None else last + 1]
    assert pieces[0].offset == first
    assert list(layout.iter_members(ByteRange(first, last))) == [
        piece for piece in pieces if isinstance(piece, MemberBytes)
    ]


def test_ranges_that_begin_and_end_beside_each_boundary() -> None:
    contents = [b"ab", b"", b"c"]
    plan = ZipLayout([entry(f"{index}.jpg", content) for index, content in enumerate(contents)])
    whole = rendered(plan, contents)
    bounds = [piece.offset for piece in plan.iter_pieces()]
    places = sorted({place for bound in [*bounds, plan.size] for place in (bound - 1, bound, bound + 1)})
    for first in places[1:]:
        for last in places[places.index(first) :]:
            if first < plan.size:
                pieces = list(plan.iter_pieces(ByteRange(first, last)))
                assert all(piece.length for piece in pieces)
                assert rendered(plan, contents, pieces) == whole[first : last + 1]
                members = list(plan.iter_members(ByteRange(first, last)))
                assert members == [piece for piece in pieces if isinstance(piece, MemberBytes)]


@given(archives(known=False))
def test_the_same_entries_give_the_same_bytes(archive: tuple[ZipLayout, list[bytes]]) -> None:
    layout, contents = archive
    assert rendered(layout, contents) == rendered(ZipLayout(list(layout.entries)), contents)


@given(archives(known=False))
def test_an_independent_reader_finds_every_member(archive: tuple[ZipLayout, list[bytes]]) -> None:
    layout, contents = archive
    whole = rendered(layout, contents)
    assert len(whole) == layout.size
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        infos = opened.infolist()
        assert [info.filename for info in infos] == [entry.name for entry in layout.entries]
        assert [opened.read(info) for info in infos] == contents
        for info in infos:
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.create_system == 3
            assert info.external_attr >> 16 == 0o100644
            assert info.flag_bits & 0x800


@pytest.mark.parametrize(
    ("modified", "dos", "stamped"),
    [
        (NOON, (2024, 5, 6, 12, 34, 56), True),
        (NOON.astimezone(tz=None), (2024, 5, 6, 12, 34, 56), True),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), (1980, 1, 1, 0, 0, 0), True),
        (datetime(1901, 12, 13, 20, 45, 52, tzinfo=UTC), (1980, 1, 1, 0, 0, 0), True),
        (datetime(1901, 12, 13, 20, 45, 51, tzinfo=UTC), (1980, 1, 1, 0, 0, 0), False),
        (datetime(1850, 1, 1, tzinfo=UTC), (1980, 1, 1, 0, 0, 0), False),
        (datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC), (2038, 1, 19, 3, 14, 6), True),
        (datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), (2038, 1, 19, 3, 14, 8), False),
        (datetime(2200, 1, 1, tzinfo=UTC), (2107, 12, 31, 23, 59, 58), False),
        (NOON + timedelta(microseconds=999_999), (2024, 5, 6, 12, 34, 56), True),
    ],
)
def test_times_are_utc_and_within_what_the_format_knows(
    modified: datetime, dos: tuple[int, ...], stamped: bool
) -> None:
    layout = ZipLayout([entry("a.jpg", b"x", modified=modified)])
    info = zipfile.ZipFile(io.BytesIO(rendered(layout, [b"x"]))).infolist()[0]
    assert info.date_time == dos
    assert info.extra == (
        b"UT\x05\x00\x01" + int(modified.timestamp() // 1).to_bytes(4, "little", signed=True) if stamped else b""
    )


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_times_are_utc_wherever_the_server_is() -> None:
    assert NOON.astimezone().hour == 21
    info = zipfile.ZipFile(io.BytesIO(rendered(ZipLayout([entry("a.jpg", b"x")]), [b"x"]))).infolist()[0]
    assert info.date_time == (2024, 5, 6, 12, 34, 56)


@pytest.mark.parametrize(
    ("size", "wide"), [(0, False), (2**32 - 2, False), (2**32 - 1, True), (2**32, True), (5 * GIBIBYTE, True)]
)
@pytest.mark.parametrize("crc32", [7, None])
def test_sizes_of_64_bits_stand_only_where_needed(size: int, wide: bool, crc32: int | None) -> None:
    layout = ZipLayout([ZipEntry("a.mp4", size, crc32, NOON)])
    assert_no_gap(layout)
    header = next(iter(layout.iter_pieces()))
    assert isinstance(header, LiteralBytes)
    assert header.data[4:6] == (b"\x2d\x00" if wide else b"\x14\x00")
    field = b"\x01\x00\x10\x00" + 2 * size.to_bytes(8, "little")
    assert (field in header.data) is wide
    shown = 2**32 - 1 if wide else size
    assert header.data[18:26] == 2 * shown.to_bytes(4, "little")
    directory = layout.build_directory({0: 7})
    assert (field in directory) is wide
    # The end record needs 64 bits only where the directory begins beyond 4 GiB.
    assert (b"PK\x06\x06" in directory) is (layout.size - len(directory) >= 2**32 - 1)


DOS_NOON = struct.pack("<HH", 12 << 11 | 34 << 5 | 57 // 2, 44 << 9 | 5 << 5 | 6)
MODE_0644 = (0o100644 << 16).to_bytes(4, "little")
STAMPED_NOON = b"UT\x05\x00\x01" + int(NOON.timestamp()).to_bytes(4, "little")


@pytest.mark.parametrize("known", [True, False])
def test_each_field_is_that_of_the_specification(known: bool) -> None:
    """Readers differ in what they look at: APPNOTE 4.3.7 (local header), 4.3.9 (descriptor), 4.3.12 (record), 4.3.16 (end)."""
    name, content = "\xe9.jpg".encode(), b"some bytes"
    crc32, size = zlib.crc32(content).to_bytes(4, "little"), (10).to_bytes(4, "little")
    plan = ZipLayout([entry("\xe9.jpg", content, known=known)])
    flags = b"\x00\x08" if known else b"\x08\x08"
    local = b"".join([
        b"PK\x03\x04", b"\x14\x00", flags, b"\x00\x00", DOS_NOON, crc32 if known else bytes(4), size, size,
        b"\x06\x00", b"\x09\x00", name, STAMPED_NOON,
    ])  # fmt: skip
    descriptor = b"" if known else b"PK\x07\x08" + crc32 + size + size
    record = b"".join([
        b"PK\x01\x02", b"\x14\x03", b"\x14\x00", flags, b"\x00\x00", DOS_NOON, crc32, size, size,
        b"\x06\x00", b"\x09\x00", bytes(6), MODE_0644, bytes(4), name, STAMPED_NOON,
    ])  # fmt: skip
    member = local + content + descriptor
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(record), len(member), 0)

    assert rendered(plan, [content]) == member + record + end


def test_each_wide_field_is_that_of_the_specification() -> None:
    """Sizes and an offset that need 64 bits: APPNOTE 4.5.3 (extra field), 4.3.14 and 4.3.15 (end records)."""
    size, far = 5 * GIBIBYTE, 5 * GIBIBYTE + 30 + 5 + 20 + 9
    plan = ZipLayout([ZipEntry("a.mp4", size, 1, NOON), ZipEntry("b.mp4", size, 2, NOON)])
    sizes = b"\xff" * 8
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    far_extra = struct.pack("<HHQQQ", 1, 24, size, size, far)
    header = next(piece for piece in plan.iter_pieces() if isinstance(piece, LiteralBytes))
    assert header.data == b"".join([
        b"PK\x03\x04", b"\x2d\x00", b"\x00\x08", b"\x00\x00", DOS_NOON, b"\x01\x00\x00\x00", sizes,
        b"\x05\x00", b"\x1d\x00", b"a.mp4", extra, STAMPED_NOON,
    ])  # fmt: skip
    records = b"".join([
        b"PK\x01\x02", b"\x2d\x03", b"\x2d\x00", b"\x00\x08", b"\x00\x00", DOS_NOON, b"\x01\x00\x00\x00", sizes,
        b"\x05\x00", b"\x1d\x00", bytes(6), MODE_0644, bytes(4), b"a.mp4", extra, STAMPED_NOON,
        b"PK\x01\x02", b"\x2d\x03", b"\x2d\x00", b"\x00\x08", b"\x00\x00", DOS_NOON, b"\x02\x00\x00\x00", sizes,
        b"\x05\x00", b"\x25\x00", bytes(6), MODE_0644, b"\xff" * 4, b"b.mp4", far_extra, STAMPED_NOON,
    ])  # fmt: skip
    start = 2 * far
    end = b"".join([
        b"PK\x06\x06", struct.pack("<QHHLLQQQQ", 44, 3 << 8 | 45, 45, 0, 0, 2, 2, len(records), start),
        b"PK\x06\x07", struct.pack("<LQL", 0, start + len(records), 1),
        b"PK\x05\x06", struct.pack("<HHHHLLH", 0, 0, 2, 2, len(records), 2**32 - 1, 0),
    ])  # fmt: skip

    assert plan.build_directory({}) == records + end


@pytest.mark.parametrize(
    ("size", "form"), [(0, "<LLL"), (2**32 - 2, "<LLL"), (2**32 - 1, "<LQQ"), (5 * GIBIBYTE, "<LQQ")]
)
def test_a_descriptor_is_as_wide_as_its_entrys_sizes(size: int, form: str) -> None:
    plan = ZipLayout([ZipEntry("a.mp4", 1, None, NOON), ZipEntry("b.mp4", size, None, NOON)])

    descriptor = plan.build_descriptor(1, 7)

    assert descriptor == b"PK\x07\x08" + struct.pack(form, 7, size, size)
    place = next(piece for piece in plan.iter_pieces() if isinstance(piece, DescriptorPlaceholder) and piece.index == 1)
    assert place.length == len(descriptor)
    directory = list(plan.iter_pieces())[-1]
    assert directory == DirectoryPlaceholder(place.offset + place.length, plan.size - place.offset - place.length)
    assert directory.length == len(plan.build_directory({0: 7, 1: 7}))


def test_a_far_offset_stands_only_in_the_directory() -> None:
    layout = ZipLayout([ZipEntry("big.mp4", 5 * GIBIBYTE, 1, NOON), ZipEntry("small.jpg", 10, 2, NOON)])
    second = list(layout.iter_pieces())[2]
    assert isinstance(second, LiteralBytes)
    assert b"\x01\x00\x10\x00" not in second.data
    offset = second.offset.to_bytes(8, "little")
    assert b"\x01\x00\x08\x00" + offset in layout.build_directory({})


@pytest.mark.parametrize(("offset", "wide"), [(2**32 - 2, False), (2**32 - 1, True), (2**32, True)])
def test_an_offset_of_64_bits_stands_only_where_needed(offset: int, wide: bool) -> None:
    """2^32-1 is no offset: the value means that the offset is in the zip64 extra field (APPNOTE 4.4.16)."""
    lengths = [piece.length for piece in ZipLayout([ZipEntry("a.mp4", 1, 1, NOON)]).iter_pieces()]
    layout = ZipLayout([ZipEntry("a.mp4", offset - lengths[0], 1, NOON), ZipEntry("b.jpg", 1, 2, NOON)])
    assert list(layout.iter_pieces())[2].offset == offset

    directory = layout.build_directory({})

    second = directory[directory.index(b"PK\x01\x02", 4) :]
    assert second[6:8] == (b"\x2d\x00" if wide else b"\x14\x00")
    assert int.from_bytes(second[42:46], "little") == min(offset, 2**32 - 1)
    assert (b"\x01\x00\x08\x00" + offset.to_bytes(8, "little") in second) is wide
    assert b"PK\x06\x06" in second, "the directory lies behind"


@pytest.mark.parametrize(("start", "wide"), [(2**32 - 2, False), (2**32 - 1, True), (2**32, True)])
def test_a_directory_that_starts_far_behind_needs_the_wide_end_record(start: int, wide: bool) -> None:
    lengths = [piece.length for piece in ZipLayout([ZipEntry("a.mp4", 1, 1, NOON)]).iter_pieces()]
    layout = ZipLayout([ZipEntry("a.mp4", start - lengths[0], 1, NOON)])

    directory = layout.build_directory({})

    assert layout.size - len(directory) == start
    assert (b"PK\x06\x06" in directory) is wide
    assert (b"PK\x06\x07" in directory) is wide
    assert directory[-6:-2] == min(start, 2**32 - 1).to_bytes(4, "little")


@pytest.mark.parametrize(("count", "wide"), [(65_534, False), (65_535, True), (65_536, True)])
def test_many_entries_need_the_wide_end_record(count: int, wide: bool) -> None:
    layout = ZipLayout([ZipEntry(f"{number}.jpg", 0, 0, NOON) for number in range(count)])
    whole = rendered(layout, [b""] * count)
    assert (b"PK\x06\x06" in whole[-200:]) is wide
    assert len(zipfile.ZipFile(io.BytesIO(whole)).infolist()) == count


def test_an_empty_archive_is_an_end_record() -> None:
    layout = ZipLayout([])
    assert layout.size == 22
    assert zipfile.ZipFile(io.BytesIO(rendered(layout, []))).namelist() == []


def test_a_missing_crc_makes_the_archive_not_resumable() -> None:
    assert ZipLayout([entry("a", b"x")]).is_resumable
    layout = ZipLayout([entry("a", b"x"), entry("b", b"y", known=False)])
    assert not layout.is_resumable
    kinds = [type(piece) for piece in layout.iter_pieces()]
    assert kinds == [LiteralBytes, MemberBytes, LiteralBytes, MemberBytes, DescriptorPlaceholder, DirectoryPlaceholder]


def test_a_hundred_thousand_entries_take_little_memory() -> None:
    entries = [ZipEntry(f"IMG_{number:06}.jpg", 3_000_000 + number, number, NOON) for number in range(100_000)]
    tracemalloc.start()
    try:
        ZipLayout(entries)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 * 1024**2


class Counting(list[ZipEntry]):
    """A list that counts how many of its entries are read."""

    looks = 0

    def __getitem__(self, index):  # type: ignore[override]
        self.looks += 1
        return super().__getitem__(index)


def test_finding_a_range_looks_at_its_own_entries_only() -> None:
    entries = Counting(ZipEntry(f"{number}.jpg", 1000, number, NOON) for number in range(10_000))
    layout = ZipLayout(entries)
    entries.looks = 0
    pieces = list(layout.iter_pieces(ByteRange(layout.size // 2, layout.size // 2 + 2000)))
    assert len(pieces) >= 3
    assert entries.looks < 20
