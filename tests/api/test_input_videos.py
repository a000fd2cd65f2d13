"""The videos of tests/inputs, uploaded to a running service: each value of their README, read through the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.media.odd_videos import INPUTS, PLAYABLE_MATRICES, measure_pitch, read_streams, read_timestamps
from tests.real.accounts import Account
from tests.real.processing import fetch_image, wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.uploads import upload

UPLOADED = "2020-01-02T03:04:05Z"
RIGHT = "2016-11-28T13:26:52"
COLOURS = ("hevc-ycgco.mp4", "hevc-pq-matrix3.mp4", "hevc-matrix0-420.mp4")
TIMED = {"vfr60.mp4": 180, "hole.mp4": 72}
DATED = {"mvhd-2040.mp4": RIGHT, "creationdate-2116.mov": RIGHT, "all-ffffffff.mp4": UPLOADED}
COMMENTARY = "commentary-first.mkv"


@pytest.fixture(scope="module")
def service(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(stacks.create("local", tmp_path_factory.mktemp("videos")), program=WORKING) as running:
        yield running


@pytest.fixture(scope="module")
def admin(service: Service) -> Account:
    return service.people.add(is_admin=True)


@pytest.fixture(scope="module")
def owner(service: Service, admin: Account) -> Iterator[httpx.Client]:
    with service.client(admin) as client:
        yield client


@pytest.fixture(scope="module")
def ids(service: Service, admin: Account, owner: httpx.Client) -> Mapping[str, str]:
    """The id of each asset, by the name of its file, after all have been processed."""
    fields = {"fileCreatedAt": UPLOADED, "fileModifiedAt": UPLOADED}
    answers = {
        name: upload(owner, (INPUTS / name).read_bytes(), name, fields=fields)
        for name in (*COLOURS, *TIMED, *DATED, COMMENTARY)
    }
    assert {answer.status_code for answer in answers.values()} == {201}
    wait_until_idle(service, admin.key, within=180)
    return {name: answer.json()["id"] for name, answer in answers.items()}


def fetch_asset(owner: httpx.Client, asset_id: str) -> Any:
    asset = owner.get(f"/api/assets/{asset_id}").json()
    assert asset["type"] == "VIDEO"
    assert "processingError" not in asset
    assert fetch_image(owner, asset_id, "preview").width
    return asset


def fetch_playable(owner: httpx.Client, asset_id: str, folder: Path) -> Path:
    played = owner.get(f"/api/assets/{asset_id}/video/playback")
    assert (played.status_code, played.headers["content-type"]) == (200, "video/mp4")
    path = folder / "played.mp4"
    path.write_bytes(played.content)
    return path


@pytest.mark.parametrize("name", COLOURS)
def test_odd_colours(owner: httpx.Client, ids: Mapping[str, str], tmp_path: Path, name: str) -> None:
    fetch_asset(owner, ids[name])
    (stream,) = read_streams(fetch_playable(owner, ids[name], tmp_path), "stream=codec_name,color_space")["streams"]
    assert stream["codec_name"] == "h264"
    assert stream.get("color_space") in PLAYABLE_MATRICES


@pytest.mark.parametrize("name", TIMED)
def test_frames_keep_their_times(owner: httpx.Client, ids: Mapping[str, str], tmp_path: Path, name: str) -> None:
    fetch_asset(owner, ids[name])
    played = fetch_playable(owner, ids[name], tmp_path)
    times, expected = read_timestamps(played), read_timestamps(INPUTS / name)
    assert len(times) == len(expected) == TIMED[name]
    assert max(abs(time - right) for time, right in zip(times, expected, strict=True)) <= 0.001
    duration, right = (
        float(read_streams(path, "format=duration")["format"]["duration"]) for path in (played, INPUTS / name)
    )
    assert duration == pytest.approx(right, abs=0.02)


@pytest.mark.parametrize("name", DATED)
def test_dates(owner: httpx.Client, ids: Mapping[str, str], name: str) -> None:
    asset = fetch_asset(owner, ids[name])
    for field in ("fileCreatedAt", "localDateTime"):
        assert asset[field].removesuffix("Z").removesuffix(".000") == DATED[name].removesuffix("Z"), field


def test_the_sound_is_the_one_marked_default(owner: httpx.Client, ids: Mapping[str, str], tmp_path: Path) -> None:
    fetch_asset(owner, ids[COMMENTARY])
    assert measure_pitch(fetch_playable(owner, ids[COMMENTARY], tmp_path)) == 880
