"""Whether the process answers and whether it can work: for orchestrators, outside `/api` and without a key."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.errors import PROBLEM_JSON, ApiError, problem, translate
from app.api.models.shape import iso_moment
from app.api.permissions import Permission
from app.api.services import Services, services
from app.catalog.errors import CatalogError
from app.health.checks import CheckResult, NotWell
from app.health.folders import MountCheckFailed
from app.health.mounts import MountsNotWell

router = APIRouter(tags=["health"])

IDENTIFY_SECONDS = 1.0
_NO_STORE = {"cache-control": "no-store"}


@router.get("/livez", summary="The process answers", response_model=None)
async def livez() -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json", headers=_NO_STORE)


@router.get(
    "/readyz",
    summary="Catalogue and media location are usable; 503 names the part that is not",
    response_model=None,
    responses={503: {"description": "Not ready", "content": {PROBLEM_JSON: {}}}},
)
@router.get("/healthz", include_in_schema=False, response_model=None)
async def readyz(request: Request, use: Annotated[Services, Depends(services)]) -> Response:
    results = await use.health.results()
    reasons = any(result.failure for result in results) and await _is_administrator(request, use)
    checks = {result.name: _shown(result, reasons=reasons) for result in results if result.required}
    details = {result.name: _shown(result, reasons=reasons) for result in results if not result.required}
    parts: dict[str, Any] = {"checks": checks, "details": details}
    failing = [name for name, check in checks.items() if check["status"] != "ok"]
    if not failing:
        body = json.dumps({"status": "ready", **parts})
        return Response(body, media_type="application/json", headers=_NO_STORE)
    error = ApiError(503, "Not ready: " + "; ".join(f"{name}: {checks[name]['error']}" for name in failing))
    body = json.dumps(problem(error, request.scope["correlation_id"]) | parts)
    return Response(body, status_code=503, media_type=PROBLEM_JSON, headers=_NO_STORE)


async def _is_administrator(request: Request, use: Services) -> bool:
    """Nobody is refused here, and a catalogue that is down is waited for only so long."""
    try:
        async with asyncio.timeout(IDENTIFY_SECONDS):
            caller = await use.authenticator.identify(request.scope)
    except (ApiError, CatalogError, TimeoutError):
        return False
    return caller.user.is_admin and caller.may(Permission.SERVER_STATISTICS)


def _shown(result: CheckResult, *, reasons: bool) -> dict[str, Any]:
    """What anybody may see of it: the kind of failure. Paths, names, buckets and what a store said are `reasons`, for administrators."""
    if result.failure is None:
        return {"status": "ok", "since": iso_moment(result.since)}
    since = result.since
    if isinstance(result.failure, TimeoutError):
        reason = "no answer in time"
    elif isinstance(result.failure, MountCheckFailed):
        reason = "looks unmounted, emptied or not ours"
    elif isinstance(result.failure, MountsNotWell):
        reason, since = str(result.failure), result.failure.since
    elif isinstance(result.failure, NotWell):
        reason = str(result.failure)
    else:
        reason = translate(result.failure).message
    shown = {"status": "failing", "error": reason, "since": iso_moment(since)}
    if reasons:
        shown["reason"] = str(result.failure) or type(result.failure).__name__
    return shown
