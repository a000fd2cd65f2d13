"""Builds the image with `make image` and buildah, and runs containers of it in a mount namespace, without a container engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/python:3.13-slim-trixie"
BUILD_SECONDS = 1800
DEBIAN = ("--variant=minbase", "--include=python3,python3-venv,python3-pip,ca-certificates", "trixie")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""This machine's CA certificates, so that the build trusts the same package indexes as the machine."""
BASE_RECIPE = """\
FROM scratch
ADD base.tar /
RUN ln -s python3 /usr/bin/python && rm -rf /usr/lib/python3*/EXTERNALLY-MANAGED /var/lib/apt/lists/* /var/cache/apt/*
COPY ca-certificates.crt /etc/ssl/certs/
"""
ENTER = """\
mount --bind "$root" "$root"
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$data" "$root/data"
if [ -n "$sockets" ]; then mkdir -p "$root/run/postgresql" && mount --bind "$sockets" "$root/run/postgresql"; fi
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="$uid" --regid="$gid" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \\
    env --ignore-environment --chdir="$folder" "$@"
"""
"""Shell script of a container: read-only root, no capabilities, only `/data` writable. `sockets` is seen as `/run/postgresql`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. `root` is its file system, `added` its size in bytes beyond the base image; the others are the image's configuration."""

    root: Path
    added: int
    environment: tuple[str, ...]
    command: tuple[str, ...]
    folder: str
    user: str


def build_image(folder: Path) -> Image:
    """Build the Dockerfile on a base of Debian packages that has the name of the Dockerfile's base image."""
    for needed in ("mmdebstrap", "buildah", "make"):
        if shutil.which(needed) is None:
            raise RuntimeError(f"no {needed} here")
    store = ("--storage-driver", "vfs", "--root", str(folder / "store"), "--runroot", str(folder / "run"))
    base = folder / "base"
    base.mkdir()
    _run("mmdebstrap", *DEBIAN, str(base / "base.tar"))
    shutil.copy(CERTIFICATES, base)
    (base / "Dockerfile").write_text(BASE_RECIPE, encoding="utf-8")
    _run("buildah", "build", *store, "--tag", BASE, str(base))
    flags = f"--pull=never {' '.join(store)}"
    _run("make", "-C", str(ROOT), "image", "BUILDER=buildah", "IMAGE=mediavault-test", f"IMAGE_FLAGS={flags}")
    configuration = json.loads(_run("buildah", *store, "inspect", "--type", "image", "mediavault-test"))["Docker"][
        "config"
    ]
    before, root = (_mounted(store, image) for image in (BASE, "mediavault-test"))
    return Image(
        root,
        _bytes(root) - _bytes(before),
        tuple(configuration["Env"]),
        tuple(configuration["Cmd"]),
        configuration["WorkingDir"],
        configuration["User"],
    )


def start(
    image: Image,
    data: Path,
    uid: int,
    gid: int,
    settings: Mapping[str, str],
    log: Path,
    *command: str,
    sockets: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start the image's command, or `command`, in a container with `data` mounted as `/data`. `sockets`: the folder of PostgreSQL's socket."""
    environment = (*image.environment, *(f"{name}={value}" for name, value in settings.items()))
    variables = {"root": str(image.root), "data": str(data), "uid": str(uid), "gid": str(gid), "folder": image.folder}
    variables["sockets"] = str(sockets or "")
    with log.open("ab") as output:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-euc", ENTER, "sh", *environment, *(command or image.command)],
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _mounted(store: tuple[str, ...], image: str) -> Path:
    return Path(_run("buildah", *store, "mount", _run("buildah", *store, "from", "--pull-never", image)))


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_symlink())


def _run(*command: str) -> str:
    """Run a command; returns its output, stripped. Raises `RuntimeError` if it fails."""
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    # Remove the flags of an outer make, which an inner make would inherit.
    environment = {
        name: value for name, value in environment.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if finished.returncode:
        sys.stderr.write(finished.stdout[-4000:])
        raise RuntimeError(f"{' '.join(command)}: {finished.stderr[-4000:]}")
    return finished.stdout.strip()
