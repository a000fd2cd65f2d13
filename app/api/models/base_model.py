"""Base classes and field types of all models: camelCase names, Immich's formats of times and checksums, text that the databases accept."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

SHA1_BYTES = 20
_BASE64_CHARACTERS = 28
_DATE_START = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class ApiModel(BaseModel):
    """Base of all models; those of answers are built by their field names. Unknown fields are ignored, because clients of other versions
    send more fields."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        field_title_generator=lambda name, _: to_camel(name),
    )


class RequestModel(ApiModel):
    """Base of the models that clients send. Only the camelCase names are accepted: `is_favorite` is an unknown field."""

    model_config = ConfigDict(populate_by_name=False)


class Selection(RequestModel):
    """A body that says which assets are meant. A field that is not known may be a condition, and ignoring it would select more than the
    client means: it is refused unless it is null. A null counts as not given, but for the fields in `null_conditions`."""

    model_config = ConfigDict(extra="forbid")

    null_conditions: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name in cls.null_conditions}


def format_timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC as JavaScript's `toISOString` formats it: with milliseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def validation_error(reason: str) -> PydanticCustomError:
    """The exception for a validator to raise; `reason` follows the field's name in the error response."""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def parse_checksum(text: object) -> bytes:
    """The 20 bytes of a SHA-1 in base64 (28 characters) or hex. Raises `PydanticCustomError`."""
    digest = b""
    if isinstance(text, str):
        try:
            is_base64 = len(text) == _BASE64_CHARACTERS
            digest = base64.b64decode(text, validate=True) if is_base64 else binascii.unhexlify(text)
        except ValueError:
            digest = b""
    if len(digest) != SHA1_BYTES:
        raise validation_error("is no SHA-1 in base64 or hex")
    return digest


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _validate_storable(text: str) -> str:
    if "\0" in text:
        raise validation_error("holds a NUL character")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise validation_error("holds half of a surrogate pair") from None
    return text


def normalize_timestamp(moment: datetime) -> datetime:
    """`moment` with a time zone, UTC if it has none. Raises `PydanticCustomError` if its time in UTC is out of `datetime`'s range."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        aware.astimezone(UTC)
    except OverflowError:
        raise validation_error("is outside of the calendar") from None
    return aware


def refuse_numbers(value: object) -> object:
    """Before `datetime` is parsed: pydantic takes numbers, also in texts such as `2024`, for seconds or milliseconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_START.match(value)):
        return value
    raise validation_error("is no ISO 8601 date and time")


def is_absent(value: object) -> bool:
    """`exclude_if` condition for fields that Immich omits instead of sending null."""
    return value is None


StorableText = Annotated[str, AfterValidator(_validate_storable)]
"""Text that SQLite and PostgreSQL can store: valid UTF-8 without NUL."""

Name = Annotated[StorableText, StringConstraints(max_length=1024)]

Timestamp = Annotated[
    datetime, AfterValidator(normalize_timestamp), PlainSerializer(format_timestamp, return_type=str, when_used="json")
]
"""A time with a time zone; a time without one is taken as UTC."""

SentTimestamp = Annotated[Timestamp, BeforeValidator(refuse_numbers)]
"""As `Timestamp`, from a client."""


def _parse_stored_timestamp(value: object) -> object:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


StoredTimestamp = Annotated[Timestamp, BeforeValidator(_parse_stored_timestamp)]
"""As `Timestamp`, of a text that the catalogue holds. Its offset may have seconds, as those of local mean time have (before about 1900); pydantic
refuses them."""

Checksum = Annotated[bytes, BeforeValidator(parse_checksum), WithJsonSchema({"type": "string"})]
"""A SHA-1 in hex or base64, parsed to its 20 bytes."""
