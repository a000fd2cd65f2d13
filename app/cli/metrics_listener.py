"""`MetricsListener`: opens the port of `/metrics` and the memory of the metrics, before any process is forked."""

from __future__ import annotations

import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.api.http.connections import ConnectionRegistry
from app.api.http.sockets import open_listening_sockets
from app.api.metrics.server import serving_metrics
from app.cli.process_supervisor import ServingProcess
from app.config import Settings
from app.health.installation_metrics import InstallationMetrics
from app.metrics.families import CLIENT_CONNECTIONS
from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SharedSegments

BACKLOG = 16


@dataclass(frozen=True, slots=True)
class MetricsListener:
    sockets: list[socket.socket]
    segments: SharedSegments

    def create_metrics(self, process: ServingProcess | None = None) -> ProcessMetrics:
        """The instruments of this process; None: it is the only one."""
        return ProcessMetrics(self.segments, self.segments.acquire() if process is None else process.segment)

    def serving(
        self, metrics: ProcessMetrics, installation: InstallationMetrics, registry: ConnectionRegistry | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Answer `/metrics` until the block ends. `registry`: that of the public server."""
        if registry is not None:
            metrics.add_gauge(
                CLIENT_CONNECTIONS,
                lambda: {(state,): float(count) for state, count in registry.count_connections().items()},
            )
        return serving_metrics(metrics, installation, self.sockets)


def open_metrics_listener(
    settings: Settings, port: int | None, port_setting: str, processes: int
) -> MetricsListener | None:
    """None if no port is set. Raises `SettingsError`."""
    if port is None:
        return None
    names = ("MEDIAVAULT_METRICS_HOST", port_setting)
    sockets = open_listening_sockets(settings.metrics_host, port, BACKLOG, settings=names)
    # Processes that drain still have theirs while others have replaced them, perhaps more than once.
    return MetricsListener(sockets, SharedSegments(1 if processes == 1 else 4 * processes + 4))
