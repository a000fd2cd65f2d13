"""Sends a request with optional fields, and finds out which of them the store refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.storage.s3.protocol.capabilities import S3Feature, StoreCapabilities
from app.storage.s3.protocol.errors import S3RequestRefused


@dataclass(frozen=True, slots=True)
class OptionalFields:
    """Optional fields of a request, and the feature that they use. `requires` is another feature that they depend on. `before_omitting` is
    called before the request is sent without them, and may raise to prevent that."""

    feature: S3Feature
    fields: Mapping[str, Any]
    requires: S3Feature | None = None
    before_omitting: Callable[[], Awaitable[None]] | None = None


async def send_supported_fields(
    capabilities: StoreCapabilities, options: Sequence[OptionalFields], send: Callable[[dict[str, Any]], Awaitable[Any]]
) -> Any:
    """Calls `send` with the fields of all options whose features are not known to be missing.

    A refused request is repeated unchanged, then with fewer fields. Where it succeeds with fewer fields, the features of the omitted ones are
    marked as missing; where it succeeds unchanged, the refusal was transient, and nothing is marked. Only `S3RequestRefused` counts as a
    refusal: damage in transit and other errors (see `translate_s3_error`) never cost a checksum. Raises the first refusal where no
    repetition succeeds.
    """
    supported = [
        option
        for option in options
        if capabilities.has(option.feature) and (option.requires is None or capabilities.has(option.requires))
    ]
    try:
        return await _send(send, options, supported)
    except S3RequestRefused as error:
        refusal = error
    for kept in (supported, *_reduced_options(supported)) if supported else ():
        try:
            answer = await _send(send, options, kept)
        except S3RequestRefused:
            continue
        for option in supported:
            if option not in kept:
                capabilities.mark_missing(option.feature, f"refused: {refusal.detail}")
        return answer
    try:
        raise refusal
    finally:
        del refusal  # its traceback refers to this frame: the cycle would wait for the garbage collector


async def _send(
    send: Callable[[dict[str, Any]], Awaitable[Any]], options: Sequence[OptionalFields], kept: Sequence[OptionalFields]
) -> Any:
    for option in options:
        if option.before_omitting is not None and option not in kept:
            await option.before_omitting()
    return await send({name: value for option in kept for name, value in option.fields.items()})


def _reduced_options(options: Sequence[OptionalFields]) -> Iterator[list[OptionalFields]]:
    """The options without each single one (and those that require it), then none."""
    for omitted in options:
        kept = [option for option in options if option is not omitted and option.requires is not omitted.feature]
        if kept:
            yield kept
    if options:
        yield []
