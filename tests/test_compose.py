"""What the service in a container is told of the settings in `.env`: all of them, and nothing that it does not know.

Part of `make check`. Compose itself cannot be had on every machine: interpolation and merging are done here as its specification says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import setting_names

ROOT = Path(__file__).parent.parent
SEAWEEDFS = ("docker-compose.yml", "compose.seaweedfs.yml")
POSTGRES = ("docker-compose.yml", "compose.postgres.yml")
FIXED = {"IMMICH_HOST": "0.0.0.0"}
"""Settings that are the container's own."""
OF_COMPOSE = {"UPLOAD_LOCATION", "TZ", "MEMORY_LIMIT", "POSTGRES_PASSWORD"}
"""Variables that the files take from `.env` and that are no settings."""
KEYS = {"S3_BUCKET": "photos", "S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?:(?P<how>:[-+?])(?P<text>(?:[^{}]|\$\{[^{}]*\})*))?\}")


class VariableMissing(Exception):
    pass


@pytest.mark.parametrize("name", sorted(setting_names() - set(FIXED)))
def test_a_setting_in_env_reaches_the_service(name: str) -> None:
    told = told_to_service({name: "some-value"})
    if name in {f"{secret}_FILE" for secret in secret_names()}:
        secret = name.removesuffix("_FILE").lower()
        assert told[name] == f"/run/secrets/{secret}"
        assert (
            interpolated(compose("docker-compose.yml")["secrets"][secret]["file"], {name: "some-value"}) == "some-value"
        )
    else:
        assert told[name] == "some-value"


def test_without_env_the_service_has_its_defaults() -> None:
    assert {name: value for name, value in told_to_service({}).items() if value} == FIXED


def test_the_service_is_told_nothing_that_it_does_not_know() -> None:
    for files in (SEAWEEDFS, POSTGRES):
        told = {name for file in files for name in compose(file)["services"]["mediavault"].get("environment", {})}
        assert told <= setting_names() | {"TZ"}


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.seaweedfs.yml", "compose.postgres.yml"])
def test_variables_of_the_files_are_settings_or_documented(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    named = {found["name"] for found in _VARIABLE.finditer(text)}
    assert named <= setting_names() | OF_COMPOSE
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert all(name in comments for name in named & OF_COMPOSE)


def test_a_bucket_without_an_endpoint_is_one_of_aws() -> None:
    told = told_to_service(KEYS)
    assert told["IMMICH_STORAGE_ENGINE"] == "s3"
    assert not told.get("S3_ENDPOINT")


def test_a_library_can_move_back_to_the_disk() -> None:
    assert told_to_service(KEYS | {"IMMICH_STORAGE_ENGINE": "local"})["IMMICH_STORAGE_ENGINE"] == "local"


def test_seaweedfs_sets_its_own_endpoint() -> None:
    told = told_to_service(KEYS, SEAWEEDFS)
    assert told["S3_ENDPOINT"] == "http://seaweedfs:8333"
    assert told["S3_FORCE_PATH_STYLE"] == "true"


def test_postgres_sets_its_own_address() -> None:
    told = told_to_service({"POSTGRES_PASSWORD": "word"}, POSTGRES)
    assert told["DB_URL"] == "postgresql://mediavault:word@postgres/mediavault"


@pytest.mark.parametrize(
    ("file", "service"), [("compose.seaweedfs.yml", "seaweedfs"), ("compose.postgres.yml", "postgres")]
)
def test_nothing_starts_without_its_password(file: str, service: str) -> None:
    with pytest.raises(VariableMissing):
        interpolated(str(compose(file)["services"][service]["environment"]), {})


def test_the_service_has_few_rights_and_bounds() -> None:
    service = compose("docker-compose.yml")["services"]["mediavault"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["healthcheck"]["test"][-1] == "app.health.livez"


def told_to_service(env: dict[str, str], files: tuple[str, ...] = ("docker-compose.yml",)) -> dict[str, str]:
    """The environment of the container, with `env` as the lines of `.env`."""
    told: dict[str, str] = {}
    for file in files:
        service = compose(file)["services"]["mediavault"]
        if {"path": ".env", "required": False} in service.get("env_file", []):
            told |= env
        told |= {name: interpolated(str(value), env) for name, value in service.get("environment", {}).items()}
    return told


def interpolated(text: str, env: dict[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}`, `${NAME:+replacement}` and `${NAME:?error}`; an empty variable is as one that is not set."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found["name"], found["how"], found["text"] or ""
        if how == ":?" and not env.get(name):
            raise VariableMissing(name)
        if how == ":+":
            return interpolated(rest, env) if env.get(name) else ""
        return env.get(name) or interpolated(rest if how == ":-" else "", env)

    return _VARIABLE.sub(value, text)


def compose(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def secret_names() -> set[str]:
    return {name.removesuffix("_FILE") for name in setting_names() if name.endswith("_FILE")}
