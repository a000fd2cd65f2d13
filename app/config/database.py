"""Settings of the catalogue's database and its backups."""

from __future__ import annotations

import re

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings

from app.config.fields import setting


class DatabaseSettings(BaseSettings):
    db_url: SecretStr = setting(
        "DB_URL",
        SecretStr("sqlite:///./data/catalogue.db"),
        "sqlite:///path or postgresql://user:password@host/database.",
    )
    database_waiting: int = setting(
        "MEDIAVAULT_DATABASE_WAITING",
        500,
        "Most calls that wait for a free connection to the database at once; a request beyond them is answered with 503.",
        ge=1,
    )
    stale_seconds: float = setting(
        "MEDIAVAULT_STALE_SECONDS",
        120.0,
        "While the database does not answer, how long files, keys and logins that were in use shortly before are still served from memory; 0 for not at all.",
        ge=0,
        le=3600,
    )
    backup_hours: float = setting(
        "MEDIAVAULT_BACKUP_HOURS",
        24.0,
        "Hours between two backups of the catalogue into backups/ of the media location; 0 makes none.",
        ge=0,
        allow_inf_nan=False,
    )
    backup_keep: int = setting("MEDIAVAULT_BACKUP_KEEP", 14, "Backups that are kept; older ones are removed.", ge=1)

    @field_validator("db_url")
    @classmethod
    def _validate_database_url(cls, value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        database = scheme.partition("+")[0]
        if database not in ("sqlite", "postgresql", "postgres") or not rest:
            raise ValueError("starts with neither sqlite:/// nor postgresql://")
        if database == "sqlite" and (not re.match(r"/[^?]", rest) or rest.startswith("/:memory:")):
            raise ValueError("names no file: sqlite:///relative/path or sqlite:////absolute/path")
        if database == "sqlite" and "?" in rest:
            raise ValueError("sqlite takes no parameters")
        return value
