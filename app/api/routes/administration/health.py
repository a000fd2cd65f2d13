"""Liveness (`/livez`) and readiness (`/readyz`) routes for orchestrators, outside `/api` and without a credential."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.authentication.permissions import Permission
from app.api.errors import PROBLEM_JSON, ApiError, build_problem, to_api_error
from app.api.models.base_model import format_timestamp
from app.api.services import Services, get_services
from app.catalog.errors import CatalogError
from app.health.media_folder import MountCheckFailed
from app.health.mount_states import UnhealthyMounts
from app.health.readiness import CheckFailed, CheckResult

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
async def readyz(request: Request, services: Annotated[Services, Depends(get_services)]) -> Response:
    results = await services.health.read_results()
    reasons = any(result.failure for result in results) and await _is_administrator(request, services)
    checks = {
        result.name: _describe_result(result, include_reasons=reasons) for result in results if result.is_required
    }
    details = {
        result.name: _describe_result(result, include_reasons=reasons) for result in results if not result.is_required
    }
    parts: dict[str, Any] = {"checks": checks, "details": details}
    failing = [name for name, check in checks.items() if check["status"] != "ok"]
    if not failing:
        body = json.dumps({"status": "ready", **parts})
        return Response(body, media_type="application/json", headers=_NO_STORE)
    error = ApiError(503, "Not ready: " + "; ".join(f"{name}: {checks[name]['error']}" for name in failing))
    body = json.dumps(build_problem(error, request.scope["correlation_id"]) | parts)
    return Response(body, status_code=503, media_type=PROBLEM_JSON, headers=_NO_STORE)


async def _is_administrator(request: Request, services: Services) -> bool:
    """Whether the caller is an administrator. Never refuses a request; waits at most `IDENTIFY_SECONDS` for a catalogue that is down."""
    try:
        async with asyncio.timeout(IDENTIFY_SECONDS):
            caller = await services.authenticator.identify(request.scope)
    except (ApiError, CatalogError, TimeoutError):
        return False
    return caller.user.is_admin and caller.has_permission(Permission.SERVER_STATISTICS)


def _describe_result(result: CheckResult, *, include_reasons: bool) -> dict[str, Any]:
    """The result as JSON. Every caller sees the kind of failure.

    `include_reasons`, for administrators: also the message, which may contain paths, names, buckets and a store's response.
    """
    if result.failure is None:
        return {"status": "ok", "since": format_timestamp(result.since)}
    since = result.since
    if isinstance(result.failure, TimeoutError):
        reason = "no answer in time"
    elif isinstance(result.failure, MountCheckFailed):
        reason = "looks unmounted, emptied or not ours"
    elif isinstance(result.failure, UnhealthyMounts):
        reason, since = str(result.failure), result.failure.since
    elif isinstance(result.failure, CheckFailed):
        reason = str(result.failure)
    else:
        reason = to_api_error(result.failure).message
    description = {"status": "failing", "error": reason, "since": format_timestamp(since)}
    if include_reasons:
        description["reason"] = str(result.failure) or type(result.failure).__name__
    return description
