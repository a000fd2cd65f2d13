"""Settings of the HTTP server: addresses, connections, logs, sessions."""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_network
from urllib.parse import urlsplit

from pydantic import field_validator
from pydantic_settings import BaseSettings

from app.config.fields import WebAddress, setting

ANY_ORIGIN = "*"
AUTO = "auto"
MOST_PROCESSES = 256


class LogLevel(StrEnum):
    """Log levels by Immich's names."""

    VERBOSE = "verbose"
    DEBUG = "debug"
    LOG = "log"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class ServerSettings(BaseSettings):
    host: str = setting("IMMICH_HOST", "127.0.0.1", "Address to listen on; 0.0.0.0 for every one.")
    port: int = setting("IMMICH_PORT", 2283, "Port to listen on.", ge=1, le=65535)
    log_level: LogLevel = setting("IMMICH_LOG_LEVEL", LogLevel.LOG, "verbose, debug, log, warn, error or fatal.")
    log_format: LogFormat = setting("MEDIAVAULT_LOG_FORMAT", LogFormat.CONSOLE, "console, or json for log collectors.")
    public_url: WebAddress | None = setting(
        "MEDIAVAULT_PUBLIC_URL",
        None,
        "Address under which clients reach the service, such as https://photos.example.org. Links are relative without it.",
    )
    connections: int = setting(
        "MEDIAVAULT_CONNECTIONS",
        1000,
        "Most connections of clients at once; idle ones are closed for others, and one more is answered with 503, unless it asks for /livez or /readyz.",
        ge=1,
    )
    connections_per_address: int = setting(
        "MEDIAVAULT_CONNECTIONS_PER_ADDRESS",
        200,
        "Most connections from one address but this host's own (of IPv6: one /64 network); of a client behind a trusted proxy, requests at once.",
        ge=1,
    )
    trusted_proxies: str = setting(
        "MEDIAVAULT_TRUSTED_PROXIES",
        "",
        "Networks of reverse proxies, such as 127.0.0.1,172.16.0.0/12: their X-Forwarded-For, X-Forwarded-Proto or Forwarded tells the client's address and scheme.",
    )
    cors_origins: str = setting(
        "MEDIAVAULT_CORS_ORIGINS",
        "",
        "Origins whose pages may upload and read, such as https://gallery.example.org,https://photos.example.net; * for all, which then send no cookies.",
    )
    processes: str = setting(
        "MEDIAVAULT_PROCESSES",
        "1",
        "Processes that serve on the same port; auto for one of each core. Limits of connections hold for each of them.",
    )
    drain_delay: float = setting(
        "MEDIAVAULT_DRAIN_DELAY",
        5.0,
        "After SIGTERM, how long /readyz answers 503 while everything is still served, so that a load balancer sends no more requests here.",
        ge=0,
        le=3600,
    )
    drain_seconds: float = setting(
        "MEDIAVAULT_DRAIN_SECONDS",
        30.0,
        "How long running requests may go on once a stopping process accepts no more connections; then they are cut.",
        ge=0,
        le=86400,
    )
    metrics_host: str = setting(
        "MEDIAVAULT_METRICS_HOST",
        "127.0.0.1",
        "Address on which /metrics is answered, for Prometheus; it must not be reachable for others.",
    )
    metrics_port: int | None = setting(
        "MEDIAVAULT_METRICS_PORT",
        None,
        "Port on which serve answers /metrics; none without it. It is never answered on the service's own port.",
        ge=1,
        le=65535,
    )
    worker_metrics_port: int | None = setting(
        "MEDIAVAULT_WORKER_METRICS_PORT",
        None,
        "Port on which worker answers /metrics; of several workers on one host, each needs its own.",
        ge=1,
        le=65535,
    )
    session_days: int = setting("MEDIAVAULT_SESSION_DAYS", 365, "Days that a login lasts.", ge=1)
    immich_sessions: bool = setting(
        "MEDIAVAULT_IMMICH_SESSIONS",
        False,
        "Whether who is logged in to an Immich that was taken over may view and download here; see docs/beside-immich.md.",
    )

    @field_validator("processes")
    @classmethod
    def _validate_processes(cls, value: str) -> str:
        if value != AUTO and not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_PROCESSES):
            raise ValueError(f"is neither auto nor a number from 1 to {MOST_PROCESSES}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _validate_networks(cls, value: str) -> str:
        try:
            for each in filter(None, map(str.strip, value.split(","))):
                ip_network(each, strict=False)
        except ValueError as error:
            raise ValueError(f"is no list of networks: {error}") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _validate_origins(cls, value: str) -> str:
        for each in _split_origins(value):
            if each != ANY_ORIGIN and not _is_origin(each):
                raise ValueError("is no list of origins, such as https://photos.example.org without a path")
        return value

    @property
    def process_count(self) -> int:
        """The number of serving processes; with `auto` one for each core that this process may use."""
        return len(os.sched_getaffinity(0)) if self.processes == AUTO else int(self.processes)

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins of `cors_origins`, in lower case."""
        return _split_origins(self.cors_origins)


def _split_origins(value: str) -> frozenset[str]:
    return frozenset(filter(None, (each.strip().lower() for each in value.split(","))))


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            text.isascii()
            and bool(parts.hostname)
            and parts.port != 0
            and text == f"{parts.scheme}://{parts.netloc}"
            and "@" not in text
        )
    except ValueError:
        return False
