"""Sends a request with the fields that some stores refuse, and finds out which of them a store does not take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.storage.s3.protocol.capabilities import S3Feature, StoreCapabilities
from app.storage.s3.protocol.errors import S3RequestRefused


@dataclass(frozen=True, slots=True)
class OptionalFields:
    """Fields of a request, and the feature that they use. `requires` is a feature without which they have no meaning; `before_omitting` runs
    before the request is sent without them, and may raise to prevent that."""

    feature: S3Feature
    fields: Mapping[str, Any]
    requires: S3Feature | None = None
    before_omitting: Callable[[], Awaitable[None]] | None = None


async def send_supported_fields(
    capabilities: StoreCapabilities, options: Sequence[OptionalFields], send: Callable[[dict[str, Any]], Awaitable[Any]]
) -> Any:
    """`send` with the fields of those options that the store is not known to lack.

    A refusal that is given twice and goes away without some of them shows that the store lacks these; one that is not repeated was a
    passing one, and costs nothing. Damage on the way and other errors with a meaning of their own are no refusals (see
    `errors.translate`), so they never cost a checksum. Raises the first refusal where none of it helps.
    """
    wanted = [
        option
        for option in options
        if capabilities.has(option.feature) and (option.requires is None or capabilities.has(option.requires))
    ]
    try:
        return await _send(send, options, wanted)
    except S3RequestRefused as error:
        refusal = error
    for kept in (wanted, *_reduced_options(wanted)) if wanted else ():
        try:
            answer = await _send(send, options, kept)
        except S3RequestRefused:
            continue
        for option in wanted:
            if option not in kept:
                capabilities.mark_missing(option.feature, f"refused: {refusal.detail}")
        return answer
    try:
        raise refusal
    finally:
        del refusal  # its traceback leads to this frame: both would wait for the garbage collector


async def _send(
    send: Callable[[dict[str, Any]], Awaitable[Any]], options: Sequence[OptionalFields], kept: Sequence[OptionalFields]
) -> Any:
    for option in options:
        if option.before_omitting is not None and option not in kept:
            await option.before_omitting()
    return await send({name: value for option in kept for name, value in option.fields.items()})


def _reduced_options(options: Sequence[OptionalFields]) -> Iterator[list[OptionalFields]]:
    """Without each one (and what requires it), then without all."""
    for left_out in options:
        kept = [option for option in options if option is not left_out and option.requires is not left_out.feature]
        if kept:
            yield kept
    if options:
        yield []
