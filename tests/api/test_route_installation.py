"""The routes of the application are those that the routers built: none is built again, which took half of a start."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.routes import install_routes, list_api_routers


def test_each_route_is_built_once() -> None:
    app = FastAPI()
    install_routes(app)
    installed = {id(route) for route in app.routes}
    assert all(id(route) in installed for router in list_api_routers() for route in router.routes)


def test_all_paths_of_the_api_are_below_its_prefix() -> None:
    paths = [getattr(route, "path", "") for router in list_api_routers() for route in router.routes]
    assert paths
    assert [path for path in paths if not path.startswith("/api/")] == []
