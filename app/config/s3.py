"""Settings of the S3 store: address, credentials, encryption, delivery, time limits."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Self

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from app.config.fields import MEBIBYTE, SettingsError, WebAddress, setting

MAX_PREFIX_BYTES = 512
"""Half of S3's limit for a key (1024 bytes): the other half is for the part below the prefix."""


class S3Delivery(StrEnum):
    PROXY = "proxy"
    REDIRECT = "redirect"


class S3Checksums(StrEnum):
    """How uploads to S3 are protected against corruption in transit (see docs/s3.md)."""

    AUTO = "auto"
    AWS = "aws"
    COMPATIBLE = "compatible"
    NONE = "none"


class S3Encryption(StrEnum):
    """Server-side encryption; the value is sent in the request header."""

    S3 = "AES256"
    KMS = "aws:kms"


class S3Settings(BaseSettings):
    s3_endpoint: WebAddress | None = setting("S3_ENDPOINT", None, "Address of the S3 server; unset for AWS.")
    s3_region: str | None = setting(
        "S3_REGION", None, "Region of the bucket; us-east-1 when unset and no other source names one."
    )
    s3_bucket: str | None = setting("S3_BUCKET", None, "The bucket.")
    s3_prefix: str = setting("S3_PREFIX", "", "Everything is kept below this prefix of the bucket.")
    s3_access_key_id: str | None = setting(
        "S3_ACCESS_KEY_ID",
        None,
        "Without it the default credential chain is used (environment, web identity, container, instance role).",
    )
    s3_secret_access_key: SecretStr | None = setting("S3_SECRET_ACCESS_KEY", None, "Goes with S3_ACCESS_KEY_ID.")
    s3_force_path_style: bool | None = setting(
        "S3_FORCE_PATH_STYLE",
        None,
        "true for https://host/bucket/key, false for https://bucket.host/key; true when S3_ENDPOINT is set and this is not.",
    )
    s3_use_accelerate: bool = setting(
        "S3_USE_ACCELERATE", False, "AWS transfer acceleration; not with path style or an endpoint."
    )
    s3_sse: S3Encryption | None = setting("S3_SSE", None, "Server-side encryption: S3 (or AES256) or KMS (or aws:kms).")
    s3_sse_kms_key_id: str | None = setting(
        "S3_SSE_KMS_KEY_ID", None, "The KMS key; without it the bucket's default key."
    )
    s3_delivery: S3Delivery = setting(
        "S3_DELIVERY", S3Delivery.PROXY, "proxy, or redirect to send clients to signed links of the store."
    )
    s3_link_seconds: int = setting(
        "MEDIAVAULT_S3_LINK_SECONDS", 900, "How long a redirected link works.", ge=10, le=604800
    )
    s3_checksums: S3Checksums = setting(
        "MEDIAVAULT_S3_CHECKSUMS",
        S3Checksums.AUTO,
        "aws (the SDK's defaults), compatible (a plain CRC32 header), none, or auto: compatible when S3_ENDPOINT is outside AWS.",
    )
    s3_forbidden_is_missing: bool = setting(
        "MEDIAVAULT_S3_FORBIDDEN_IS_MISSING",
        False,
        "Take 403 for a missing object: only for credentials that may not list the bucket.",
    )
    s3_deadline: float = setting(
        "MEDIAVAULT_S3_DEADLINE",
        30.0,
        "Seconds that a call to the store may take (at most 600), beside the time its bytes need at the minimum rate.",
        gt=0,
        le=600,  # below `LATE_WRITE_GRACE` (app/catalog/files.py), so that the sweeper waits for a put under way
        allow_inf_nan=False,
    )
    s3_minimum_rate: int = setting(
        "MEDIAVAULT_S3_MINIMUM_RATE",
        256 * 1024,
        "Bytes per second below which a transfer to the store counts as stuck.",
        ge=1,
    )
    s3_connections: int = setting(
        "MEDIAVAULT_S3_CONNECTIONS",
        64,
        "Connections to the store for reads, and as many again for everything else.",
        ge=4,
    )
    s3_write_buffer: int = setting(
        "MEDIAVAULT_S3_WRITE_BUFFER",
        256 * MEBIBYTE,
        "Most bytes that all uploads together hold in memory.",
        ge=32 * MEBIBYTE,
    )

    @field_validator("s3_sse", mode="before")
    @classmethod
    def _normalize_encryption(cls, value: Any) -> Any:
        return {"S3": S3Encryption.S3, "KMS": S3Encryption.KMS}.get(value, value)

    @field_validator("s3_prefix")
    @classmethod
    def _validate_prefix(cls, value: str) -> str:
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
    def _validate_bucket_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}", value):
            raise ValueError(
                "is no bucket name: 3 to 63 letters, digits, dots and hyphens; a folder goes into S3_PREFIX"
            )
        return value

    @model_validator(mode="after")
    def _check_s3_consistency(self) -> Self:
        if self.s3_use_accelerate and self.s3_force_path_style:
            raise SettingsError("S3_USE_ACCELERATE and S3_FORCE_PATH_STYLE exclude each other")
        if self.s3_use_accelerate and self.s3_endpoint:
            raise SettingsError("S3_USE_ACCELERATE and S3_ENDPOINT exclude each other")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise SettingsError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY go together: one of them is not set")
        if self.s3_sse_kms_key_id and self.s3_sse is not S3Encryption.KMS:
            raise SettingsError("S3_SSE_KMS_KEY_ID is set, but S3_SSE is not KMS")
        return self
