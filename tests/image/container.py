"""The image, built by `make image` with buildah, and containers of it in a mount namespace: nothing here needs an engine that runs."""

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
"""Of this machine: the build reaches package indexes as the machine does."""
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
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="$uid" --regid="$gid" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \\
    env --ignore-environment --chdir="$folder" "$@"
"""
"""Read-only root, no capabilities, no folder that can be written to but `/data`."""


@dataclass(frozen=True, slots=True)
class Image:
    """`root`: its files. `added`: bytes that it takes beyond its base. The others are of the image's configuration."""

    root: Path
    added: int
    environment: tuple[str, ...]
    command: tuple[str, ...]
    folder: str
    user: str


def build_image(folder: Path) -> Image:
    """Build the Dockerfile on a base made of Debian's packages, under the name of the base that it asks for."""
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
    told = json.loads(_run("buildah", *store, "inspect", "--type", "image", "mediavault-test"))["Docker"]["config"]
    before, root = (_mounted(store, image) for image in (BASE, "mediavault-test"))
    return Image(
        root, _bytes(root) - _bytes(before), tuple(told["Env"]), tuple(told["Cmd"]), told["WorkingDir"], told["User"]
    )


def start(
    image: Image, data: Path, uid: int, gid: int, settings: Mapping[str, str], log: Path, *command: str
) -> subprocess.Popen[bytes]:
    """A process in a container: the image's command, or another one. `data` is mounted as `/data`."""
    environment = (*image.environment, *(f"{name}={value}" for name, value in settings.items()))
    variables = {"root": str(image.root), "data": str(data), "uid": str(uid), "gid": str(gid), "folder": image.folder}
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
    """Its output, without the line's end."""
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    # Make hands a make below it its own flags and targets.
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
