"""Routes of the timeline: the months that have assets, and the assets of one month as columns."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import asks_in_vain
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.timeline import (
    TimelineBucket,
    TimelineBucketQuery,
    TimelineColumns,
    TimelineColumnsBuilder,
    TimelineQuery,
)
from app.api.routes.json_routes import refuse_unknown_parameters
from app.api.services import Services, get_services

router = APIRouter(prefix="/api/timeline", tags=["timeline"], dependencies=[Depends(refuse_unknown_parameters)])

Reader = Annotated[Identity, Depends(require_permission(Permission.ASSET_READ))]
ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("/buckets")
async def get_time_buckets(
    query: Annotated[TimelineQuery, Query()], caller: Reader, services: ServicesDependency
) -> list[TimelineBucket]:
    """The months in which you have assets, by local time, newest first."""
    _check_selection(query, caller)
    if asks_in_vain(caller, query.visibility):
        return []
    months = await services.catalog.timeline.count_by_month(caller.user.id, query.to_filters())
    return [TimelineBucket(time_bucket=month, count=count) for month, count in months]


@router.get("/bucket", response_model=TimelineColumns)
async def get_time_bucket(
    query: Annotated[TimelineBucketQuery, Query()], caller: Reader, services: ServicesDependency
) -> Response:
    """Your assets of one month, newest first: one list for each field."""
    _check_selection(query, caller)
    builder = TimelineColumnsBuilder(with_coordinates=query.with_coordinates, with_stacked=query.with_stacked)
    if not asks_in_vain(caller, query.visibility):
        async for page in services.catalog.timeline.iter_month(caller.user.id, query.to_filters(), query.month):
            builder.add(page)
    encoded: list[str] = []
    for name, column in builder.columns.items():
        encoded.append(f"{json.dumps(name)}:{json.dumps(column, ensure_ascii=False)}")
        await asyncio.sleep(0)  # a column of 100,000 assets takes milliseconds
    return Response(f"{{{','.join(encoded)}}}", media_type="application/json")


def _check_selection(query: TimelineQuery, caller: Identity) -> None:
    """Raises `ApiError` 404 for what is not there or not the caller's."""
    absent = {"Album": query.album_id, "Person": query.person_id, "Tag": query.tag_id}
    for name, selected in absent.items():
        if selected is not None:
            raise ApiError(404, f"{name} not found")
    if query.user_id not in (None, caller.user.id):
        raise ApiError(404, "User not found")
