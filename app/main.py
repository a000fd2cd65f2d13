"""Wires the rooms together into one ASGI application; nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app import __version__
from app.api.auth import Authenticator
from app.api.delivery_cache import DeliveryCache
from app.api.errors import install_error_handlers
from app.api.front import Front
from app.api.hot import answer_at_once, find_hot_path
from app.api.methods import install_methods
from app.api.openapi import install_openapi
from app.api.passwords import Passwords
from app.api.routes import install_routes
from app.api.services import Services
from app.archives.links import Links
from app.archives.planning import Archiver
from app.catalog.outage import FailedWork
from app.config import Settings, load_settings
from app.health.catalogue import CatalogCheck
from app.health.checks import Health
from app.health.mounts import Mounts, require_all_well
from app.libraries.service import Libraries
from app.media.portraits import Portraits
from app.migration.backup import Backups
from app.migration.schedule import BackupSchedule
from app.opening import open_ground
from app.uploads.ingest import Ingest


def create_app(settings: Settings | None = None, *, work: bool = True, adopt: bool = False) -> Front:
    """The service as an ASGI application; its lifespan opens and closes what it needs.

    `work`: it also works on tasks. `adopt` makes the media location's markers ours, whoever wrote them.
    """
    chosen = settings or load_settings()
    api = FastAPI(title="mediavault", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(api)
    install_methods(api)
    install_routes(api)
    install_openapi(api)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with open_services(chosen, work=work, adopt=adopt) as services:
            yield services

    return Front(api, find_hot_path, answer_at_once, opened, api.state)


@asynccontextmanager
async def open_services(settings: Settings, *, work: bool = True, adopt: bool = False) -> AsyncIterator[Services]:
    """All that the routes work with. `work`: this process also works on tasks. Raises `StartRefused`."""
    async with open_ground(settings, work=work, adopt=adopt) as ground:
        catalog, storage, media_location = ground.catalog, ground.storage, ground.media_location
        archiver = Archiver(catalog, storage)
        libraries = Libraries(
            catalog,
            settings,
            confine=storage.confine_external,
            doomed=ground.sweeper.wake,
            added=ground.jobs.wake,
        )
        backups = Backups(catalog, storage, settings)
        schedule = BackupSchedule(backups, settings.backup_hours, media_location.require_intact)
        catalogue = CatalogCheck(catalog)
        async with (
            aclosing(catalogue),
            libraries.running(),
            schedule.running(),
            aclosing(Links(catalog, archiver)) as links,
        ):
            yield Services(
                settings=settings,
                catalog=catalog,
                storage=storage,
                ingest=Ingest(catalog, storage, settings, media_location.admit_write, ground.jobs.wake),
                portraits=Portraits(catalog, storage, ground.processor, ground.publisher),
                archiver=archiver,
                links=links,
                authenticator=Authenticator(catalog, settings, Passwords()),
                cache=DeliveryCache(catalog, storage),
                sweeper=ground.sweeper,
                libraries=libraries,
                jobs=ground.jobs,
                health=Health(
                    {
                        "catalogue": catalogue.check,
                        "media location": media_location.check,
                        "staging folder": storage.staging.check,
                    },
                    {
                        "ffmpeg": ground.processor.check,
                        "workers": ground.jobs.check,
                        "libraries": partial(require_all_well, libraries.states),
                    },
                    is_covered=partial(catalog.outages.covers, work=FailedWork.CHECK),
                ),
                mounts=Mounts([media_location.states, libraries.states]),
            )
