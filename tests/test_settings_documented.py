"""Every setting is documented with its default, every documented setting exists, and the lock files have the right packages.

Part of `make check`. A failure shows the line that is missing or wrong.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings, setting_names

ROOT = Path(__file__).parent.parent


def format_default(default: Any) -> str:
    """A default value in the form of a line of `.env`; empty for an unset one."""
    if default is None:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default.value if isinstance(default, Enum) else default)


SETTINGS = [
    (str(field.validation_alias), format_default(field.default), str(field.description))
    for field in Settings.model_fields.values()
]


@pytest.mark.parametrize(("name", "default", "meaning"), SETTINGS, ids=[name for name, *_ in SETTINGS])
def test_a_setting_is_documented(name: str, default: str, meaning: str) -> None:
    assert f"\n# {meaning}\n#{name}={default}\n" in (ROOT / ".env.example").read_text(encoding="utf-8")
    row = f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_env_example_names_only_settings() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    assert named == setting_names()


def test_readme_table_names_only_settings() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(name for name, *_ in SETTINGS)


def test_image_sets_only_settings() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:IMMICH|MEDIAVAULT|S3|DB)_[A-Z0-9_]+)=", text))
    assert "IMMICH_HOST" in named
    assert named <= setting_names()


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_lock_file_pins_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)
    requirements = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^\s;]+", requirement), requirement.splitlines()[0]
        assert "--hash=sha256:" in requirement, requirement.splitlines()[0]
