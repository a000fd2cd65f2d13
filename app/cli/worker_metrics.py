"""The metrics of `mediavault worker`: those of its process, and the states of the mounts that it sees. The database's are told by `serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from app.cli.metrics_listener import MetricsListener, open_metrics_listener
from app.config import Settings
from app.health.installation_metrics import InstallationMetrics, create_mount_group
from app.metrics.instruments import ProcessMetrics
from app.startup import CoreServices


def open_worker_metrics(settings: Settings) -> MetricsListener | None:
    """None if no port is set. Raises `SettingsError`."""
    return open_metrics_listener(settings, settings.worker_metrics_port, "MEDIAVAULT_WORKER_METRICS_PORT", 1)


@asynccontextmanager
async def serving_worker_metrics(
    listener: MetricsListener | None, metrics: ProcessMetrics | None, services: CoreServices
) -> AsyncIterator[None]:
    if listener is None or metrics is None:
        yield
        return
    async with (
        aclosing(InstallationMetrics([create_mount_group(services.media_location.list_mount_states)])) as installation,
        listener.serving(metrics, installation),
    ):
        yield
