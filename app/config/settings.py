"""`Settings`: all groups of settings together, and the sources that they are read from.

Settings come from the environment or from `.env` in the working folder; secrets also from the file that `<NAME>_FILE`
names. An invalid or contradictory setting raises `SettingsError`, whose text is one line that names it.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.config.database import DatabaseSettings
from app.config.fields import SettingsError
from app.config.libraries import LibrarySettings
from app.config.media import MediaSettings
from app.config.offload import OffloadMode, OffloadSettings
from app.config.s3 import S3Settings
from app.config.server import ServerSettings
from app.config.storage import StorageEngine, StorageSettings
from app.config.transfers import TransferSettings


class Settings(
    ServerSettings,
    OffloadSettings,
    DatabaseSettings,
    StorageSettings,
    S3Settings,
    MediaSettings,
    TransferSettings,
    LibrarySettings,
):
    """Sizes are in bytes and durations in seconds, unless the description says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        case_sensitive=True,
        populate_by_name=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, SecretFileSource(settings_cls), env_settings, dotenv_settings)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.storage_engine is StorageEngine.S3 and not self.s3_bucket:
            raise SettingsError("S3_BUCKET is not set, but IMMICH_STORAGE_ENGINE is s3")
        if self.port in (self.metrics_port, self.worker_metrics_port):
            name = "MEDIAVAULT_METRICS_PORT" if self.port == self.metrics_port else "MEDIAVAULT_WORKER_METRICS_PORT"
            raise SettingsError(f"{name} is IMMICH_PORT: metrics are not for clients")
        if self.offload is not OffloadMode.OFF and not self.trusted_proxies.strip():
            raise SettingsError(f"MEDIAVAULT_TRUSTED_PROXIES is not set, but MEDIAVAULT_OFFLOAD is {self.offload}")
        if self.staging_folder.is_relative_to(self.media_location):
            raise SettingsError("MEDIAVAULT_STAGING_FOLDER lies in IMMICH_MEDIA_LOCATION")
        if self.cache_folder is not None and self.cache_folder.is_relative_to(self.media_location):
            raise SettingsError("MEDIAVAULT_CACHE_FOLDER lies in IMMICH_MEDIA_LOCATION")
        return self

    @property
    def session_lifetime(self) -> timedelta:
        return timedelta(days=self.session_days)


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads the secret `NAME` from the file that `NAME_FILE` names. Raises `SettingsError` when both are set."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        name = str(field.validation_alias)
        source = _read_environment()
        path = source.get(f"{name}_FILE")
        if not path:
            return None, name, False
        if source.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE: cannot read {path!r}: {_describe_read_error(error)}") from None
        if not secret:
            raise SettingsError(f"{name}_FILE: {path!r} is empty")
        return secret, name, False

    def __call__(self) -> dict[str, Any]:
        secrets = {}
        for field_name in secret_fields():
            value, name, _ = self.get_field_value(Settings.model_fields[field_name], field_name)
            if value is not None:
                secrets[name] = value
        return secrets


def load_settings() -> Settings:
    """Read the settings of this process. Raises `SettingsError`."""
    unknown = sorted(name for name in _read_environment() if _is_own_setting(name) and name not in setting_names())
    if unknown:
        raise SettingsError(f"{unknown[0]} is no setting of mediavault (see .env.example)")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


def read_secret_files() -> dict[str, str]:
    """Read the secrets whose files the environment names, by setting name. Raises `SettingsError`."""
    return SecretFileSource(Settings)()


def prefix_setting_name(setting: str, error: Exception | str) -> str:
    """The error's text with the setting's name in front, unless it begins with the name already."""
    return str(error) if str(error).startswith(setting) else f"{setting}: {error}"


def setting_names() -> frozenset[str]:
    """Every name that the environment may use, including the `…_FILE` forms."""
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    return frozenset(names | {f"{Settings.model_fields[name].validation_alias}_FILE" for name in secret_fields()})


def secret_fields() -> tuple[str, ...]:
    """The fields whose values may also come from a file."""
    return ("db_url", "s3_access_key_id", "s3_secret_access_key", "offload_secret")


def _is_own_setting(name: str) -> bool:
    return name.startswith("MEDIAVAULT_") and not name.startswith("MEDIAVAULT_TEST_")


def _read_environment() -> dict[str, str]:
    try:
        _check_env_file(Path(".env"))
        env_file = {name: value for name, value in dotenv_values(".env").items() if value}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env: cannot be read: {_describe_read_error(error)}") from None
    return env_file | {name: value for name, value in os.environ.items() if value}


def _check_env_file(path: Path) -> None:
    """Raises `SettingsError` for a line that cannot be parsed: dotenv ignores such a line, and a missing setting could
    mean another folder for files."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for binding in parse_stream(lines):
            if binding.error:
                raise SettingsError(f".env: line {binding.original.line} is no NAME=value")


def _describe_read_error(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "error" if isinstance(error, OSError) else "not UTF-8 text"
