"""Every setting: its name in the environment, its default and its meaning.

Settings come from the environment or `.env` in the working folder; secrets also from the file that `<NAME>_FILE` names.
A wrong or contradictory setting raises `SettingsError`, whose text is one line that names it.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE

MAX_PREFIX_BYTES = 512
"""Half of what S3 allows for a key: the rest is for what lies below the prefix."""


class StorageEngine(StrEnum):
    LOCAL = "local"
    S3 = "s3"


class S3Delivery(StrEnum):
    PROXY = "proxy"
    REDIRECT = "redirect"


class S3Checksums(StrEnum):
    """How uploads to S3 are protected against damage on the way (see docs/s3.md)."""

    AUTO = "auto"
    AWS = "aws"
    COMPATIBLE = "compatible"
    NONE = "none"


class S3Encryption(StrEnum):
    """Server-side encryption; the value is what the request header carries."""

    S3 = "AES256"
    KMS = "aws:kms"


class LogLevel(StrEnum):
    """Immich's names."""

    VERBOSE = "verbose"
    DEBUG = "debug"
    LOG = "log"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class SettingsError(Exception):
    """A setting is wrong; the text is one line that names it."""


def _setting(name: str, default: Any, description: str, **constraints: Any) -> Any:
    return Field(default=default, validation_alias=name, description=description, **constraints)


class Settings(BaseSettings):
    """Sizes are bytes and durations seconds unless the description says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        case_sensitive=True,
        populate_by_name=True,
    )

    host: str = _setting("IMMICH_HOST", "127.0.0.1", "Address to listen on; 0.0.0.0 for every one.")
    port: int = _setting("IMMICH_PORT", 2283, "Port to listen on.", ge=1, le=65535)
    log_level: LogLevel = _setting("IMMICH_LOG_LEVEL", LogLevel.LOG, "verbose, debug, log, warn, error or fatal.")
    log_format: LogFormat = _setting("MEDIAVAULT_LOG_FORMAT", LogFormat.CONSOLE, "console, or json for log collectors.")
    public_url: str | None = _setting(
        "MEDIAVAULT_PUBLIC_URL",
        None,
        "Address under which clients reach the service, such as https://photos.example.org. Links are relative without it.",
    )
    connections: int = _setting(
        "MEDIAVAULT_CONNECTIONS",
        1000,
        "Most connections of clients at once; one more is answered with 503, unless it asks for /livez or /readyz.",
        ge=1,
    )
    connections_per_address: int = _setting(
        "MEDIAVAULT_CONNECTIONS_PER_ADDRESS",
        200,
        "Most connections from one address but this host's own (of IPv6: one /64 network); of a client behind a trusted proxy, requests at once.",
        ge=1,
    )
    trusted_proxies: str = _setting(
        "MEDIAVAULT_TRUSTED_PROXIES",
        "",
        "Networks of reverse proxies, such as 127.0.0.1,172.16.0.0/12: their X-Forwarded-For tells the client's address.",
    )

    db_url: SecretStr = _setting(
        "DB_URL",
        SecretStr("sqlite:///./data/catalogue.db"),
        "sqlite:///path or postgresql://user:password@host/database.",
    )

    storage_engine: StorageEngine = _setting(
        "IMMICH_STORAGE_ENGINE", StorageEngine.LOCAL, "Where new files go: local or s3."
    )
    media_location: Path = _setting(
        "IMMICH_MEDIA_LOCATION", Path("./data/media"), "The local media folder; stays set after a move to S3."
    )
    fsync: bool = _setting(
        "MEDIAVAULT_FSYNC", True, "Local writes survive a power loss. Only ever turn it off for tests."
    )
    ignore_mount_check_errors: bool = _setting(
        "IMMICH_IGNORE_MOUNT_CHECK_ERRORS",
        False,
        "Start although a media folder looks unmounted or belongs to another installation.",
    )

    s3_endpoint: str | None = _setting("S3_ENDPOINT", None, "Address of the S3 server; unset for AWS.")
    s3_region: str | None = _setting(
        "S3_REGION", None, "Region of the bucket; us-east-1 when unset and no other source names one."
    )
    s3_bucket: str | None = _setting("S3_BUCKET", None, "The bucket.")
    s3_prefix: str = _setting("S3_PREFIX", "", "Everything is kept below this prefix of the bucket.")
    s3_access_key_id: str | None = _setting(
        "S3_ACCESS_KEY_ID",
        None,
        "Without it the default credential chain is used (environment, web identity, container, instance role).",
    )
    s3_secret_access_key: SecretStr | None = _setting("S3_SECRET_ACCESS_KEY", None, "Goes with S3_ACCESS_KEY_ID.")
    s3_force_path_style: bool | None = _setting(
        "S3_FORCE_PATH_STYLE",
        None,
        "true for https://host/bucket/key, false for https://bucket.host/key; true when S3_ENDPOINT is set and this is not.",
    )
    s3_use_accelerate: bool = _setting(
        "S3_USE_ACCELERATE", False, "AWS transfer acceleration; not with path style or an endpoint."
    )
    s3_sse: S3Encryption | None = _setting(
        "S3_SSE", None, "Server-side encryption: S3 (or AES256) or KMS (or aws:kms)."
    )
    s3_sse_kms_key_id: str | None = _setting(
        "S3_SSE_KMS_KEY_ID", None, "The KMS key; without it the bucket's default key."
    )
    s3_delivery: S3Delivery = _setting(
        "S3_DELIVERY", S3Delivery.PROXY, "proxy, or redirect to send clients to signed links of the store."
    )
    s3_link_seconds: int = _setting(
        "MEDIAVAULT_S3_LINK_SECONDS", 900, "How long a redirected link works.", ge=10, le=604800
    )
    s3_checksums: S3Checksums = _setting(
        "MEDIAVAULT_S3_CHECKSUMS",
        S3Checksums.AUTO,
        "aws (the SDK's defaults), compatible (a plain CRC32 header), none, or auto: compatible when S3_ENDPOINT is outside AWS.",
    )
    s3_forbidden_is_missing: bool = _setting(
        "MEDIAVAULT_S3_FORBIDDEN_IS_MISSING",
        False,
        "Take 403 for a missing object: only for credentials that may not list the bucket.",
    )
    s3_deadline: float = _setting(
        "MEDIAVAULT_S3_DEADLINE",
        30.0,
        "Seconds that a call to the store may take (at most 600), beside the time its bytes need at the minimum rate.",
        gt=0,
        le=600,  # below `LATE_EFFECT_GRACE` (app/catalog/files.py): the sweeper outlasts a put that is under way
        allow_inf_nan=False,
    )
    s3_minimum_rate: int = _setting(
        "MEDIAVAULT_S3_MINIMUM_RATE",
        256 * 1024,
        "Bytes per second below which a transfer to the store counts as stuck.",
        ge=1,
    )
    s3_connections: int = _setting(
        "MEDIAVAULT_S3_CONNECTIONS",
        64,
        "Connections to the store for reads, and as many again for everything else.",
        ge=4,
    )
    s3_write_buffer: int = _setting(
        "MEDIAVAULT_S3_WRITE_BUFFER",
        256 * MEBIBYTE,
        "Most bytes that all uploads together hold in memory.",
        ge=32 * MEBIBYTE,
    )

    staging_folder: Path = _setting(
        "MEDIAVAULT_STAGING_FOLDER",
        Path("./data/staging"),
        "Where files lie while tools work on them; on a local disk, never below IMMICH_MEDIA_LOCATION.",
    )
    staging_limit: int = _setting(
        "MEDIAVAULT_STAGING_LIMIT",
        10 * GIBIBYTE,
        "Most bytes of originals that lie there at once; a larger one is let in alone.",
        ge=MEBIBYTE,
    )

    photo_tasks: int | None = _setting(
        "MEDIAVAULT_PHOTO_TASKS",
        None,
        "Photos that a process works on at once; as many as it has processors when unset.",
        ge=1,
    )
    video_tasks: int = _setting(
        "MEDIAVAULT_VIDEO_TASKS",
        4,
        "Videos that a process works on at once, those that wait to be transcoded among them.",
        ge=1,
    )
    transcodes: int = _setting("MEDIAVAULT_TRANSCODES", 1, "Videos that a process transcodes at once.", ge=1)

    upload_limit: int = _setting("MEDIAVAULT_UPLOAD_LIMIT", 64 * GIBIBYTE, "Largest upload.", ge=1)
    upload_idle_seconds: float = _setting(
        "MEDIAVAULT_UPLOAD_IDLE_SECONDS",
        60.0,
        "An upload that sends nothing for so long is given up.",
        gt=0,
        allow_inf_nan=False,
    )
    upload_minimum_rate: int = _setting(
        "MEDIAVAULT_UPLOAD_MINIMUM_RATE",
        512,
        "Bytes per second, averaged over a minute, below which an upload is given up.",
        ge=0,
    )
    download_idle_seconds: float = _setting(
        "MEDIAVAULT_DOWNLOAD_IDLE_SECONDS",
        60.0,
        "An answer of which the client takes nothing for so long is cut off.",
        gt=0,
        allow_inf_nan=False,
    )
    download_minimum_rate: int = _setting(
        "MEDIAVAULT_DOWNLOAD_MINIMUM_RATE",
        512,
        "Bytes per second, averaged over a minute of waiting for the client, below which an answer is cut off.",
        ge=0,
    )
    trash_days: int = _setting(
        "MEDIAVAULT_TRASH_DAYS", 30, "Days after which what is in the trash is removed; 0 keeps it.", ge=0
    )
    library_scan_at: str = _setting(
        "MEDIAVAULT_LIBRARY_SCAN_AT",
        "00:00",
        "Local time at which all external libraries are scanned every day, such as 03:30; off for never.",
    )
    library_watch: bool = _setting(
        "MEDIAVAULT_LIBRARY_WATCH", False, "Follow changes in external libraries as they happen."
    )
    library_settle_seconds: float = _setting(
        "MEDIAVAULT_LIBRARY_SETTLE_SECONDS",
        5.0,
        "How long a file in a watched library must rest before it is taken in.",
        ge=0.1,
        le=3600,
    )
    library_poll_seconds: float = _setting(
        "MEDIAVAULT_LIBRARY_POLL_SECONDS",
        60.0,
        "How often a library is looked through that is to be watched and cannot be.",
        ge=0.1,
        le=86400,
    )
    backup_hours: float = _setting(
        "MEDIAVAULT_BACKUP_HOURS",
        24.0,
        "Hours between two backups of the catalogue into backups/ of the media location; 0 makes none.",
        ge=0,
        allow_inf_nan=False,
    )
    backup_keep: int = _setting("MEDIAVAULT_BACKUP_KEEP", 14, "Backups that are kept; older ones are removed.", ge=1)
    session_days: int = _setting("MEDIAVAULT_SESSION_DAYS", 365, "Days that a login lasts.", ge=1)

    media_seconds: float = _setting(
        "MEDIAVAULT_MEDIA_SECONDS",
        120.0,
        "What one photo, or the poster frame of one video, may take. Processor time is limited to the same.",
        gt=0,
        allow_inf_nan=False,
    )
    transcode_seconds: float = _setting(
        "MEDIAVAULT_TRANSCODE_SECONDS",
        14400.0,
        "What making one video playable may take.",
        gt=0,
        allow_inf_nan=False,
    )
    media_memory: int = _setting(
        "MEDIAVAULT_MEDIA_MEMORY",
        4 * GIBIBYTE,
        "Most address space of each process that works on a photo or video.",
        ge=512 * MEBIBYTE,
    )
    media_pixels: int = _setting(
        "MEDIAVAULT_MEDIA_PIXELS", 250_000_000, "Most pixels of a photo, or of a frame of a video.", ge=1
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
        return (init_settings, SecretFiles(settings_cls), env_settings, dotenv_settings)

    @field_validator("s3_sse", mode="before")
    @classmethod
    def _name_encryption(cls, value: Any) -> Any:
        return {"S3": S3Encryption.S3, "KMS": S3Encryption.KMS}.get(value, value)

    @field_validator("s3_prefix")
    @classmethod
    def _bare_prefix(cls, value: str) -> str:
        prefix = value.strip("/")
        if any(segment in ("", ".", "..") for segment in prefix.split("/")) and prefix:
            raise ValueError("has an empty, '.' or '..' segment")
        if "\\" in prefix or not prefix.isprintable():
            raise ValueError("holds a back-slash or a control character")
        if len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise ValueError(f"is longer than {MAX_PREFIX_BYTES} bytes")
        return prefix

    @field_validator("s3_bucket")
    @classmethod
    def _bare_bucket(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}", value):
            raise ValueError(
                "is no bucket name: 3 to 63 letters, digits, dots and hyphens; a folder goes into S3_PREFIX"
            )
        return value

    @field_validator("media_location", "staging_folder")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            for each in filter(None, map(str.strip, value.split(","))):
                ip_network(each, strict=False)
        except ValueError as error:
            raise ValueError(f"is no list of networks: {error}") from None
        return value

    @field_validator("library_scan_at")
    @classmethod
    def _time_of_day(cls, value: str) -> str:
        if value != "off" and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("is neither a time such as 03:30 nor off")
        return value

    @field_validator("db_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        database = scheme.partition("+")[0]
        if database not in ("sqlite", "postgresql", "postgres") or not rest:
            raise ValueError("starts with neither sqlite:/// nor postgresql://")
        if database == "sqlite" and (not re.match(r"/[^?]", rest) or rest.startswith("/:memory:")):
            raise ValueError("names no file: sqlite:///relative/path or sqlite:////absolute/path")
        if database == "sqlite" and "?" in rest:
            raise ValueError("sqlite takes no parameters")
        return value

    @field_validator("public_url", "s3_endpoint")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # its text quotes the address, which may hold a password
            raise ValueError("is no http:// or https:// address") from None
        if not valid:
            raise ValueError("is no http:// or https:// address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("may hold no credentials, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.storage_engine is StorageEngine.S3 and not self.s3_bucket:
            raise SettingsError("S3_BUCKET is not set, but IMMICH_STORAGE_ENGINE is s3")
        if self.staging_folder.is_relative_to(self.media_location):
            raise SettingsError("MEDIAVAULT_STAGING_FOLDER lies in IMMICH_MEDIA_LOCATION")
        if self.s3_use_accelerate and self.s3_force_path_style:
            raise SettingsError("S3_USE_ACCELERATE and S3_FORCE_PATH_STYLE exclude each other")
        if self.s3_use_accelerate and self.s3_endpoint:
            raise SettingsError("S3_USE_ACCELERATE and S3_ENDPOINT exclude each other")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise SettingsError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together: one of them is not set")
        if self.s3_sse_kms_key_id and self.s3_sse is not S3Encryption.KMS:
            raise SettingsError("S3_SSE_KMS_KEY_ID is set, but S3_SSE is not KMS")
        return self

    @property
    def session_lifetime(self) -> timedelta:
        return timedelta(days=self.session_days)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the secret `NAME` from the file that `NAME_FILE` names; both at once contradict each other."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        name = str(field.validation_alias)
        source = _surroundings()
        path = source.get(f"{name}_FILE")
        if not path:
            return None, name, False
        if source.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE: cannot read {path!r}: {_reason(error)}") from None
        if not secret:
            raise SettingsError(f"{name}_FILE: {path!r} is empty")
        return secret, name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for field_name in secret_fields():
            value, name, _ = self.get_field_value(Settings.model_fields[field_name], field_name)
            if value is not None:
                found[name] = value
        return found


def load_settings() -> Settings:
    """The settings of this process. Raises `SettingsError`."""
    unknown = sorted(name for name in _surroundings() if _ours(name) and name not in setting_names())
    if unknown:
        raise SettingsError(f"{unknown[0]} is no setting of mediavault (see .env.example)")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


def secrets_from_files() -> dict[str, str]:
    """The secrets for which the environment names a file, by the names of the settings, as those files are now. Raises `SettingsError`."""
    return SecretFiles(Settings)()


def named(setting: str, error: Exception | str) -> str:
    """The error's text, which begins with the setting's name."""
    return str(error) if str(error).startswith(setting) else f"{setting}: {error}"


def setting_names() -> frozenset[str]:
    """Every name that the environment may use, the `…_FILE` forms among them."""
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    return frozenset(names | {f"{Settings.model_fields[name].validation_alias}_FILE" for name in secret_fields()})


def secret_fields() -> tuple[str, ...]:
    """The fields that may also come from a file."""
    return ("db_url", "s3_access_key_id", "s3_secret_access_key")


def _ours(name: str) -> bool:
    return name.startswith("MEDIAVAULT_") and not name.startswith("MEDIAVAULT_TEST_")


def _surroundings() -> dict[str, str]:
    try:
        _check_env_file(Path(".env"))
        env_file = {name: value for name, value in dotenv_values(".env").items() if value}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env: cannot be read: {_reason(error)}") from None
    return env_file | {name: value for name, value in os.environ.items() if value}


def _check_env_file(path: Path) -> None:
    """Raises `SettingsError`: dotenv passes over what it cannot read, and a setting that was left out means another place for files."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for binding in parse_stream(lines):
            if binding.error:
                raise SettingsError(f".env: line {binding.original.line} is no NAME=value")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "error" if isinstance(error, OSError) else "not UTF-8 text"
