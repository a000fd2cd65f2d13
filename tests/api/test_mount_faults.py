"""A media location that is not ours any more while the service runs: not ready, uploads refused, and well again without a restart."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.photos import photo
from tests.api.starting import StartService
from tests.real.awaiting import eventually
from tests.real.service import Service
from tests.real.stacks import Engine

MOMENTS = {"fileCreatedAt": "2024-01-01T00:00:00Z", "fileModifiedAt": "2024-01-01T00:00:00Z"}


class Marker:
    """The marker of the folder that uploads go to, by the side door."""

    def __init__(self, service: Service) -> None:
        self._bucket = service.stack.bucket
        self._file = service.stack.media / "upload" / ".immich"
        self._key = f"{self._bucket.prefix}/.immich" if self._bucket else ""

    def read(self) -> bytes:
        if self._bucket is None:
            return self._file.read_bytes()
        client = self._bucket.server.client()
        return client.get_object(Bucket=self._bucket.name, Key=self._key)["Body"].read()

    def write(self, text: bytes) -> None:
        if self._bucket is None:
            Path(self._file).write_bytes(text)
        else:
            self._bucket.server.client().put_object(Bucket=self._bucket.name, Key=self._key, Body=text)


def upload(client: httpx.Client) -> httpx.Response:
    return client.post("/api/assets", data=MOMENTS, files={"assetData": ("photo.jpg", photo())})


@pytest.mark.parametrize("engine", ["local", "s3"])
def test_uploads_are_refused_while_the_marker_is_somebody_elses(start_service: StartService, engine: Engine) -> None:
    service = start_service(engine)
    marker = Marker(service)
    ours = marker.read()
    with service.client(service.people.add()) as client:
        assert upload(client).status_code == 201
        marker.write(b"1732300000000\n")
        eventually(lambda: upload(client).status_code == 503, "uploads are refused")
        refused = upload(client)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        eventually(lambda: client.get("/readyz").status_code == 503, "the service is not ready")
        assert "media location" in client.get("/readyz").json()["message"]
        marker.write(ours)
        eventually(lambda: upload(client).status_code == 201, "uploads are taken again")
        eventually(lambda: client.get("/readyz").status_code == 200, "the service is ready again")
