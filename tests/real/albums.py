"""An album of a few photos and videos of every kind, with thumbnails."""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.real.accounts import Account
from tests.real.processing import wait_until_idle
from tests.real.sample_media import make_jpeg, make_motion_photo, make_video
from tests.real.service import Service
from tests.real.uploads import upload

MAKE, MODEL, EXIF, GPS = 0x010F, 0x0110, 0x8769, 0x8825
EXPOSURE, APERTURE, ISO, FOCAL, LENS, TAKEN, OFFSET = 0x829A, 0x829D, 0x8827, 0x920A, 0xA434, 0x9003, 0x9011


@dataclass(frozen=True, slots=True)
class Album:
    """Assets of one user, newest first. `ids` is in that order."""

    service: Service
    account: Account
    ids: dict[str, str]

    @property
    def order(self) -> list[str]:
        return list(self.ids.values())


def create_album(service: Service, folder: Path) -> Album:
    """A photo with much EXIF, a live photo, a video, a broken photo and plain photos, of different days and two months; `service` makes
    thumbnails, and `folder` is for temporary files."""
    account = service.people.add(password=secrets.token_hex(8), is_admin=True)
    files = {
        "1": ("1.jpg", make_described_photo(), "2024-06-20T10:34:00Z"),
        "live": ("live.jpg", make_motion_photo(folder)[0], "2024-06-19T10:00:00Z"),
        "video": ("film.mp4", make_video(folder, playable=True), "2024-06-18T10:00:00Z"),
        "broken": ("broken.jpg", b"\xff\xd8\xff\xe0" + secrets.token_bytes(64), "2024-06-17T10:00:00Z"),
        "2": ("2.jpg", make_jpeg(900, 600), "2024-06-16T10:00:00Z"),
        "3": ("3.jpg", make_jpeg(600, 900), "2024-05-02T10:00:00Z"),
        "4": ("4.jpg", make_jpeg(900, 600), "2024-05-01T10:00:00Z"),
    }
    with service.client(account) as client:
        ids = {
            key: str(
                upload(client, content, name, fields={"fileCreatedAt": moment, "fileModifiedAt": moment}).json()["id"]
            )
            for key, (name, content, moment) in files.items()
        }
    wait_until_idle(service, account.key)
    return Album(service, account, ids)


def make_described_photo() -> bytes:
    """A photo with camera, exposure, time zone and place."""
    image = Image.open(io.BytesIO(make_jpeg(3000, 2000)))
    exif = image.getexif()
    exif[MAKE], exif[MODEL] = "Fujifilm", "X-T5"
    exif.get_ifd(EXIF).update(
        {
            EXPOSURE: 1 / 250,
            APERTURE: 2.8,
            ISO: 200,
            FOCAL: 35.0,
            LENS: "XF 16-55",
            TAKEN: "2024:06:20 12:34:00",
            OFFSET: "+02:00",
        }
    )
    exif.get_ifd(GPS).update({1: "S", 2: (33.0, 51.0, 25.2), 3: "E", 4: (151.0, 12.0, 54.0)})
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, quality=60)
    return out.getvalue()
