"""Fast-path handler for GET and HEAD of a zip by its download link. The token in the URL is the only credential."""

from __future__ import annotations

import re
from functools import partial

from starlette.types import Receive, Scope, Send

from app.api.errors import ApiError
from app.api.files.external_files import raise_if_member_unmounted
from app.api.services import Services
from app.archives.errors import MemberLost
from app.delivery.response import NO_CACHE, Representation
from app.storage.backend import read_for_account

ARCHIVE_PATH_PREFIX = "/api/download/archives/"
ARCHIVE_ROUTE = f"{ARCHIVE_PATH_PREFIX}{{token}}/{{name}}"

_LINK_PATTERN = re.compile(r"/api/download/archives/([A-Za-z0-9_-]{1,128})/[^/]{1,1024}", re.DOTALL)
# The URL contains the token: the browser must not send it to other pages as `Referer`.
_HEADERS = ((b"referrer-policy", b"no-referrer"),)


def is_archive_link(path: str) -> bool:
    return path.startswith(ARCHIVE_PATH_PREFIX) and _LINK_PATTERN.fullmatch(path) is not None


def redact_path(path: str) -> str:
    """The path for the log, without the token of a download link."""
    return f"{ARCHIVE_PATH_PREFIX}…" if path.startswith(ARCHIVE_PATH_PREFIX) else path


async def serve_archive(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Send the archive, with conditions and ranges. An unknown and an expired token get the same 404."""
    match = _LINK_PATTERN.fullmatch(scope["path"])
    link = await services.archive_links.open(match[1]) if match else None
    if link is None:
        raise ApiError(404, "The link is unknown or has expired")
    read_for_account(link.id)
    representation = Representation(
        link.source,
        attachment=True,
        cache_control=NO_CACHE,
        check_readable=link.source.check_first_members,
    )
    try:
        hold_slot = partial(services.limits.hold_archive, link.id)
        await representation.deliver(scope, receive, send, _HEADERS, hold_slot)
    except MemberLost as lost:
        await raise_if_member_unmounted(lost, services.catalog, services.libraries)
        raise
