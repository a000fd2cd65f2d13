"""Settings of the front server that sends files in place of this service."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from app.config.fields import SettingsError, setting

SHORTEST_SECRET = 20
"""Characters. The secret is sent with every request, so a short one could be guessed."""


class OffloadMode(StrEnum):
    """The response field that names the file to the front server."""

    OFF = "off"
    X_ACCEL = "x-accel"
    X_SENDFILE = "x-sendfile"


class OffloadSettings(BaseSettings):
    offload: OffloadMode = setting(
        "MEDIAVAULT_OFFLOAD",
        OffloadMode.OFF,
        "x-accel (nginx, Caddy) or x-sendfile (lighttpd) to have the reverse proxy send files in place of this service; see docs/proxies.md.",
    )
    offload_secret: SecretStr | None = setting(
        "MEDIAVAULT_OFFLOAD_SECRET",
        None,
        "What the reverse proxy sends in X-Offload-Secret, so that nobody else is sent to its files; at least 20 letters and digits.",
    )
    offload_minimum: int = setting(
        "MEDIAVAULT_OFFLOAD_MINIMUM",
        16 * 1024,
        "Smallest number of bytes that the reverse proxy is left to send.",
        ge=1,
    )

    @field_validator("offload_secret")
    @classmethod
    def _validate_secret(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if value is not None and (len(text) < SHORTEST_SECRET or not (text.isascii() and text.isalnum())):
            raise ValueError(f"is not at least {SHORTEST_SECRET} letters and digits")
        return value

    @model_validator(mode="after")
    def _check_offload_secret(self) -> Self:
        if self.offload is not OffloadMode.OFF and self.offload_secret is None:
            raise SettingsError(f"MEDIAVAULT_OFFLOAD_SECRET is not set, but MEDIAVAULT_OFFLOAD is {self.offload}")
        return self
