"""What a process may be doing when it is disturbed: answering a request of some kind, or within a step that has an effect."""

from __future__ import annotations

from collections.abc import Iterable

from tests.campaign.steps import SERVER_STEPS, SWEEPER_STEPS, WORK_STEPS

REQUESTS = (
    "request: upload",
    "request: resumable upload",
    "request: range",
    "request: file",
    "request: thumbnail",
    "request: link",
    "request: archive",
    "request: deletion",
    "request: listing",
    "request: key",
)
API_STEPS = (*SERVER_STEPS["s3"], *REQUESTS)
PAGE_STEPS = tuple(dict.fromkeys((*API_STEPS, *WORK_STEPS, *SWEEPER_STEPS, "duplicate completed")))
"""Everything that a page of shared memory counts."""
API_TARGETS = (
    "file row begun",
    "object put",
    "part uploaded",
    "multipart upload completed",
    "live transaction",
    "answer",
    "doom transaction",
    "session saved",
    "tail put",
    "chunk answered",
    "request: range",
    "request: file",
    "request: archive",
    "request: key",
)
"""Where processes that serve are killed and stopped."""
WORKER_TARGETS = (
    "task claimed",
    "original staged",
    "metadata read",
    "pictures made",
    "object put",
    "derivatives swapped",
    "task done",
)

_FIRST_PARTS = {
    ("POST", "/api/download/links"): "request: link",
    ("GET", "/api/download/archives/"): "request: archive",
    ("POST", "/api/assets"): "request: upload",
    ("DELETE", "/api/assets"): "request: deletion",
    ("POST", "/api/search/"): "request: listing",
}


def name_request(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The activity that a request is; None for those that are not counted."""
    for (of_method, beginning), activity in _FIRST_PARTS.items():
        if method == of_method and path.startswith(beginning):
            return activity
    if path.startswith("/api/uploads"):
        return "request: resumable upload"
    if path.startswith("/api/api-keys") or path == "/api/users/me":
        return "request: key"
    if path.endswith("/thumbnail"):
        return "request: thumbnail"
    if path.endswith("/original"):
        return "request: range" if any(name == b"range" for name, _ in headers) else "request: file"
    return None
