"""The functions that a request may call in a worker, by name, and the conversion of their results and exceptions to JSON.

Importing this module loads all libraries that decode user data, but that for camera RAW. Therefore only the fork server imports it, never the
service.
"""

from __future__ import annotations

import errno
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed, LimitExceeded, MediaDiskFull, MediaError, MissingTool, SourceUnreadable
from app.media.images.decoding import load_raw_decoder
from app.media.images.motion_photos import locate_motion_video
from app.media.images.rendering import make_derivatives, make_square
from app.media.metadata.photo_metadata import complete_metadata, read_metadata
from app.media.sandbox.result_parsing import redact_path


def inspect_photo(source: str, content: str, pixels: int, sidecar: str | None) -> dict[str, Any]:
    """As `read_metadata`, and `motion` as `locate_motion_video` gives it, None if that failed. One request: starting a worker costs more than both."""
    answer = read_metadata(source, content, sidecar)
    try:
        answer["motion"] = locate_motion_video(source, content, pixels)
    except Exception:  # noqa: BLE001 - a request of its own tells the reason
        answer["motion"] = None
    return answer


WORKER_FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "inspect_photo": inspect_photo,
    "read_metadata": read_metadata,
    "complete_metadata": complete_metadata,
    "make_derivatives": make_derivatives,
    "make_square": make_square,
    "locate_motion": locate_motion_video,
}

_DISK_FAULTS = frozenset(
    {errno.EIO, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT}
)
"""Errors of a disk or network share that fails or disappears. For a damaged file decoders raise others, such as `EINVAL`."""


def load_decoder(arguments: dict[str, Any]) -> None:
    """Load the library that a call with `arguments` needs, if it is loaded at its first use. In the fork server, so that all later workers have it."""
    if arguments.get("content") == DetectedFormat.RAW.value:
        with suppress(MissingTool):
            load_raw_decoder()


def run_function(function: str, arguments: dict[str, Any]) -> bytes:
    """`{"result": …}`, or `{"error": <name of a MediaError>, "reason": …}`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = {"result": WORKER_FUNCTIONS[function](**arguments)}
    except MediaError as error:
        answer = {"error": type(error).__name__, "reason": error.reason}
    except Exception as error:  # noqa: BLE001 - decoders raise exceptions of any type for a damaged file
        failure = _translate_error(error)
        answer = {"error": type(failure).__name__, "reason": redact_path(failure.reason, str(arguments["source"]))}
    return json.dumps(answer).encode()


def _translate_error(error: Exception) -> MediaError:
    if isinstance(error, MemoryError):
        return LimitExceeded("it needs more memory than is permitted")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MediaDiskFull("there is no room for the results")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return LimitExceeded("the results are larger than is permitted")
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        return SourceUnreadable(f"it cannot be read: {error.strerror}")
    return DecodeFailed(f"it cannot be decoded: {str(error) or type(error).__name__}")
