"""Every model that a route reads from a request accepts the names of the API only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.routes import list_api_routers


def iter_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, and in the types of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from iter_models(field.annotation)
    for argument in get_args(annotation):
        yield from iter_models(argument)


def list_request_models() -> list[type[BaseModel]]:
    routes = [route for router in list_api_routers() for route in router.routes if isinstance(route, APIRoute)]
    parameters = [
        parameter for route in routes for parameter in (*route.dependant.body_params, *route.dependant.query_params)
    ]
    models = {model for parameter in parameters for model in iter_models(parameter.field_info.annotation)}
    return sorted(models, key=lambda model: model.__name__)


@pytest.mark.parametrize("model", list_request_models())
def test_it_takes_no_field_by_its_python_name(model: type[BaseModel]) -> None:
    assert not model.model_config.get("populate_by_name")


def test_the_models_are_found() -> None:
    assert {"AssetUpdate", "UploadCheckItem", "SearchOrder"} <= {model.__name__ for model in list_request_models()}
