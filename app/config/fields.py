"""Shared by all groups of settings: the declaration of a field, types of values, units, and `SettingsError`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE


class SettingsError(Exception):
    """A setting is invalid; the text is one line that names it."""


def setting(name: str, default: Any, description: str, **constraints: Any) -> Any:
    """A field whose value comes from the environment variable `name`."""
    return Field(default=default, validation_alias=name, description=description, **constraints)


def _make_absolute(value: Path) -> Path:
    return value.expanduser().absolute()


def _check_web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the text of the error quotes the address, which may contain a password
        raise ValueError("is no http:// or https:// address") from None
    if not valid:
        raise ValueError("is no http:// or https:// address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("may hold no credentials, query or fragment")
    return value.rstrip("/")


AbsolutePath = Annotated[Path, AfterValidator(_make_absolute)]
WebAddress = Annotated[str, AfterValidator(_check_web_address)]
"""An http or https URL without credentials, query, fragment or trailing slash."""
