"""The Compose files pass all settings of `.env` to the container, and no variable that the service does not know.

Part of `make check`. Compose is not installed on every machine, so this module interpolates and merges as Compose's specification says.
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
FIXED = {"IMMICH_HOST": "0.0.0.0", "IMMICH_PORT": "2283"}
"""Settings that the Compose files set themselves."""
OF_COMPOSE = {"LISTEN_ADDRESS", "LISTEN_PORT", "UPLOAD_LOCATION", "MEMORY_LIMIT", "POSTGRES_PASSWORD"}
"""Variables of `.env` that the Compose files use and that are no settings of the service."""
KEYS = {"S3_BUCKET": "photos", "S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?:(?P<how>:[-?])(?P<text>(?:[^{}]|\$\{[^{}]*\})*))?\}")


class VariableMissing(Exception):
    pass


@pytest.mark.parametrize("name", sorted(setting_names() - set(FIXED)))
def test_a_setting_in_env_reaches_the_service(name: str) -> None:
    assert container_environment({name: "some-value"})[name] == "some-value"


def test_without_env_the_service_has_its_defaults() -> None:
    assert {name: value for name, value in container_environment({}).items() if value} == FIXED


def test_the_service_is_told_nothing_that_it_does_not_know() -> None:
    for files in (SEAWEEDFS, POSTGRES):
        told = {name for file in files for name in compose(file)["services"]["mediavault"].get("environment", {})}
        assert told <= setting_names()


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.seaweedfs.yml", "compose.postgres.yml"])
def test_variables_of_the_files_are_settings_or_documented(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    named = {found["name"] for found in _VARIABLE.finditer(text)}
    assert named <= setting_names() | OF_COMPOSE
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert all(name in comments for name in named & OF_COMPOSE)


def test_the_first_start_prints_how_to_get_in() -> None:
    assert compose("docker-compose.yml")["services"]["mediavault"]["command"] == ["mediavault", "serve", "--first-run"]


def test_a_bucket_without_an_endpoint_is_one_of_aws() -> None:
    assert "S3_ENDPOINT" not in container_environment(KEYS | {"IMMICH_STORAGE_ENGINE": "s3"})


def test_the_host_listens_where_it_is_told_and_else_for_itself_alone() -> None:
    """podman-compose takes the variables of the ports from the service's own environment, too."""
    service = compose("docker-compose.yml")["services"]["mediavault"]
    own = {name: str(value) for name, value in service["environment"].items()}
    assert interpolated(service["ports"][0], own) == "127.0.0.1:2283:2283"
    chosen = own | {"LISTEN_ADDRESS": "0.0.0.0", "LISTEN_PORT": "3000"}
    assert interpolated(service["ports"][0], chosen) == "0.0.0.0:3000:2283"


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.seaweedfs.yml", "compose.postgres.yml"])
def test_only_forms_that_every_implementation_knows_are_used(file: str) -> None:
    """podman-compose 1.3 has no `:+`, and no variable in the value of the variable of the same name."""
    assert ":+" not in (ROOT / file).read_text(encoding="utf-8")
    for service in compose(file)["services"].values():
        for name, value in service.get("environment", {}).items():
            assert f"${{{name}:-" not in str(value)


def test_seaweedfs_sets_its_own_endpoint() -> None:
    told = container_environment(KEYS, SEAWEEDFS)
    assert told["S3_ENDPOINT"] == "http://seaweedfs:8333"
    assert told["S3_FORCE_PATH_STYLE"] == "true"


def test_postgres_sets_its_own_address() -> None:
    told = container_environment({"POSTGRES_PASSWORD": "word"}, POSTGRES)
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


def container_environment(env: dict[str, str], files: tuple[str, ...] = ("docker-compose.yml",)) -> dict[str, str]:
    """The environment of the container if `.env` contains `env`."""
    told: dict[str, str] = {}
    for file in files:
        service = compose(file)["services"]["mediavault"]
        if {"path": ".env", "required": False} in service.get("env_file", []):
            told |= env
        told |= {name: interpolated(str(value), env) for name, value in service.get("environment", {}).items()}
    return told


def interpolated(text: str, env: dict[str, str]) -> str:
    """`text` with `${NAME}`, `${NAME:-default}` and `${NAME:?error}` replaced; an empty variable counts as unset."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found["name"], found["how"], found["text"] or ""
        if how == ":?" and not env.get(name):
            raise VariableMissing(name)
        return env.get(name) or interpolated(rest if how == ":-" else "", env)

    return _VARIABLE.sub(value, text)


def compose(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
