"""Archives with real unzip and download programs: they unpack, and split, interrupted and resumed downloads give the same bytes."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.accounts import Account
from tests.real.archive_programs import assert_unpacks, run, start
from tests.real.archives import (
    DownloadLink,
    download,
    files_on_disk,
    link_of_many,
    make_link,
    move_to_another_key,
    sha256_of,
    upload_zeros,
)
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE
KILLS = 5
SLOW = 20 * MEBIBYTE
NAMES = [
    "Grüße aus Köln.jpg",  # Latin
    "Καλημέρα.jpg",
    "Доброе утро.jpg",
    "صباح الخير.jpg",
    "בוקר טוב.jpg",
    "सुप्रभात.jpg",
    "শুভ সকাল.jpg",
    "காலை வணக்கம்.jpg",
    "สวัสดีตอนเช้า.jpg",
    "დილა მშვიდობისა.jpg",
    "早上好.jpg",
    "おはようございます.jpg",
    "좋은 아침.jpg",
    "🏖️👨‍👩‍👧‍👦🎉.jpg",
    "cafe\u0301 NFD.jpg",
    "a 'quoted' & (odd) #1 %41 name!.jpg",
]


@pytest.fixture(scope="module")
def owner(service: Service) -> Account:
    return service.people.add()


@pytest.fixture(scope="module")
def client(service: Service, owner: Account) -> Iterator[httpx.Client]:
    with service.client(owner, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def small(client: httpx.Client) -> list[tuple[str, bytes]]:
    contents = [fresh_bytes(size) for size in (1, 700, 1500, 2500)]
    return [(uploaded(client, content), content) for content in contents]


@pytest.fixture(scope="module")
def large(client: httpx.Client) -> dict[str, bytes]:
    """24 MiB in all."""
    contents = [fresh_bytes(size * KIBIBYTE) for size in (300, 8000, 1, 9000, 7275)]
    return {uploaded(client, content): content for content in contents}


@pytest.fixture(scope="module")
def link(client: httpx.Client, large: dict[str, bytes]) -> DownloadLink:
    return make_link(client, large)


@pytest.fixture(scope="module")
def sha256(client: httpx.Client, link: DownloadLink, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of an uninterrupted download."""
    return download(client, link, tmp_path_factory.mktemp("plain") / "plain.zip")


@pytest.fixture(scope="module")
def replica(service: Service) -> Iterator[Service]:
    """A second service process on the same catalogue and storage. It has a local media location whatever the engine."""
    service.stack.media.mkdir(exist_ok=True)
    with Service(service.stack) as running:
        yield running


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with Proxy(service.port) as proxy:
        yield proxy


class TestUnpacking:
    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_few_files(self, client: httpx.Client, small: list[tuple[str, bytes]], tmp_path: Path, count: int) -> None:
        chosen = small[-count:] if count else []
        link = make_link(client, [asset for asset, _ in chosen])
        download(client, link, tmp_path / "few.zip")

        assert_unpacks(tmp_path / "few.zip", count, sum(len(content) for _, content in chosen))

    def test_thousands_of_files(
        self,
        service: Service,
        owner: Account,
        client: httpx.Client,
        small: list[tuple[str, bytes]],
        tmp_path: Path,
        soak: bool,
    ) -> None:
        for count in (5000, 70_000) if soak else (2000,):
            link = link_of_many(service, owner.id, small, count)
            download(client, link, tmp_path / "many.zip")

            assert_unpacks(tmp_path / "many.zip", count, count // len(small) * sum(len(data) for _, data in small))

    def test_a_large_file(
        self, service: Service, owner: Account, client: httpx.Client, tmp_path: Path, soak: bool
    ) -> None:
        size = 5 * GIBIBYTE if soak else 40 * MEBIBYTE
        link = make_link(client, [upload_zeros(service, owner, size)])
        download(client, link, tmp_path / "large.zip")

        assert_unpacks(tmp_path / "large.zip", 1, size)

    def test_names_in_many_scripts(self, client: httpx.Client, tmp_path: Path) -> None:
        contents = {name: fresh_bytes(100) for name in NAMES}
        link = make_link(client, [uploaded(client, content, name) for name, content in contents.items()])
        archive = tmp_path / "names.zip"
        download(client, link, archive)

        assert_unpacks(archive, len(NAMES), 100 * len(NAMES))
        for tool, arguments in {
            "unzip": ("-qq", archive, "-d", "."),
            "7z": ("x", archive),
            "bsdtar": ("-xf", archive),
        }.items():
            folder = tmp_path / tool
            folder.mkdir()
            ended = run(tool, *arguments, folder=folder)

            assert ended.returncode == 0, ended.stdout + ended.stderr
            found = {path.name: path.read_bytes() for path in folder.iterdir()}
            if tool == "bsdtar":  # composes what it reads
                assert found.keys() == {unicodedata.normalize("NFC", name) for name in contents}
            else:
                assert found == contents, tool


class TestResuming:
    def test_aria2_splits_it_over_eight_connections(
        self, proxy: Proxy, link: DownloadLink, sha256: str, tmp_path: Path
    ) -> None:
        _aria2(proxy.endpoint, link, tmp_path)

        assert sha256_of(tmp_path / "aria2.zip") == sha256
        assert proxy.most_connections >= 8
        assert len([request for request in proxy.of("GET") if _starts_later(request)]) >= 7

    def test_wget_continues_what_was_cut(self, proxy: Proxy, link: DownloadLink, sha256: str, tmp_path: Path) -> None:
        target = tmp_path / "wget.zip"
        proxy.faults.append(Fault(cut_after=link.size // 3, times=1))
        cut = run("wget", "--no-config", "--tries=1", "-q", "-O", target, proxy.endpoint + link.path)
        assert cut.returncode != 0
        assert 0 < target.stat().st_size < link.size

        ended = run("wget", "--no-config", "-q", "-c", "-O", target, proxy.endpoint + link.path)

        assert ended.returncode == 0, ended.stderr
        assert sha256_of(target) == sha256
        assert proxy.requests[-1].headers["range"] == f"bytes={link.size // 3}-"

    def test_curl_killed_five_times(
        self,
        service: Service,
        replica: Service,
        link: DownloadLink,
        large: dict[str, bytes],
        sha256: str,
        tmp_path: Path,
    ) -> None:
        """Resumed at one replica and the other, which is started anew, and after members have moved."""
        target = tmp_path / "curl.zip"
        target.touch()
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        stops = sorted(random.Random(seed).sample(range(64 * KIBIBYTE, link.size - MEBIBYTE), KILLS))
        with Proxy(service.port, rate=SLOW) as one, Proxy(replica.port, rate=SLOW) as two:
            for number, stop in enumerate(stops):
                proxy = (one, two)[number % 2]
                if target.stat().st_size < stop:
                    _curl_until(stop, proxy.endpoint, link, target)
                if number == 1:
                    move_to_another_key(service, list(large)[::2])
                if number == 2:
                    replica.restart()
            one.rate = None
            ended = run("curl", "-q", "-s", "-f", "-C", "-", "-o", target, one.endpoint + link.path)

        assert ended.returncode == 0
        assert len(one.of("GET")) + len(two.of("GET")) >= KILLS - 2
        assert sha256_of(target) == sha256

    def test_another_replica_gives_the_same_while_members_are_elsewhere(
        self,
        service: Service,
        replica: Service,
        link: DownloadLink,
        large: dict[str, bytes],
        sha256: str,
        tmp_path: Path,
    ) -> None:
        elsewhere = dict(list(large.items())[1:4])
        with replica.client() as anonymous, files_on_disk(service, elsewhere, service.stack.media / "upload/elsewhere"):
            assert download(anonymous, link, tmp_path / "plain.zip") == sha256
            _aria2(replica.url, link, tmp_path)
            assert sha256_of(tmp_path / "aria2.zip") == sha256
        with service.client() as anonymous:
            assert download(anonymous, link, tmp_path / "back.zip") == sha256


def _aria2(endpoint: str, link: DownloadLink, folder: Path) -> None:
    options = ("--no-conf", "-x8", "-s8", "-k1M", "-q", "--file-allocation=none", "--async-dns=false")
    ended = run("aria2c", *options, "-d", folder, "-o", "aria2.zip", endpoint + link.path)
    assert ended.returncode == 0, ended.stdout


def _curl_until(size: int, endpoint: str, link: DownloadLink, target: Path) -> None:
    """Resume the download with curl, and kill it when the file has `size` bytes."""
    curl = start("curl", "-q", "-s", "-f", "-C", "-", "-o", target, endpoint + link.path)
    try:
        eventually(lambda: target.stat().st_size >= size or curl.poll() is not None, "curl gets on", within=60)
        assert target.stat().st_size >= size, f"curl ended with {curl.returncode}"
    finally:
        curl.kill()
        curl.wait(10)


def _starts_later(request: Recorded) -> bool:
    return not request.headers.get("range", "bytes=0-").startswith("bytes=0-")
