"""The metrics that mediavault exports: names, units, labels and bounds of buckets. `docs/metrics.md` describes each for operators.

Names follow OpenMetrics; those of HTTP requests and of database connections follow OpenTelemetry's semantic conventions. The values of every
label come from a fixed set: none grows with users, assets, libraries or paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """`name` without `_total`, with its unit. `buckets`: the upper bounds of a histogram. `preset`: combinations of label values that are
    exported from the start, as 0."""

    name: str
    kind: MetricKind
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    preset: tuple[tuple[str, ...], ...] = ()

    @property
    def value_count(self) -> int:
        """Of a histogram: one for each bucket, one for what is above all, and the sum."""
        return len(self.buckets) + 2 if self.kind is MetricKind.HISTOGRAM else 1


OTHER = "_OTHER"
"""The label's value for methods that HTTP does not know (OpenTelemetry's name), and for paths without a route."""

HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds; OpenTelemetry's advice for `http.server.request.duration`."""
_STORAGE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TASK_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

DISK, S3, CACHE, FRONT_SERVER = "disk", "s3", "cache", "front_server"
UPLOAD_PROTOCOLS = ("form", "tus", "ietf")
UPLOAD_OUTCOMES = ("created", "duplicate", "refused", "failed", "aborted")
TASK_KINDS = ("image", "video")
TASK_OUTCOMES = ("done", "retry", "failed", "released")

HTTP_DURATION = MetricFamily(
    "http_server_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time from a request's head to the end of its response.",
    ("http_request_method", "http_route", "http_response_status_code"),
    HTTP_BUCKETS,
)
HTTP_ACTIVE = MetricFamily(
    "http_server_active_requests",
    MetricKind.GAUGE,
    "Requests that are being answered.",
    ("http_request_method",),
)
FIRST_BYTE = MetricFamily(
    "mediavault_time_to_first_byte_seconds",
    MetricKind.HISTOGRAM,
    "Time from a request's head to the head of its response.",
    ("http_request_method", "http_route"),
    HTTP_BUCKETS,
)
CLIENT_CONNECTIONS = MetricFamily(
    "mediavault_client_connections",
    MetricKind.GAUGE,
    "Open connections of clients. over_limit: those that may only ask for the health of the service.",
    ("state",),
)
TRANSFERS = MetricFamily(
    "mediavault_transfers",
    MetricKind.GAUGE,
    "Uploads, downloads of more than one chunk, and archives that are under way.",
    ("kind",),
)
TRANSFER_LIMIT = MetricFamily(
    "mediavault_transfer_limit",
    MetricKind.GAUGE,
    "How many of them all processes allow, in all and to one account.",
    ("kind", "scope"),
)
TRANSFERS_REFUSED = MetricFamily(
    "mediavault_refused_transfers",
    MetricKind.COUNTER,
    "Transfers that a limit refused. s3_reads: reads that got no connection to the store in time. database_calls: too many waited.",
    ("kind",),
    preset=(("uploads",), ("downloads",), ("archives",), ("s3_reads",), ("database_calls",)),
)
SENT_BYTES = MetricFamily(
    "mediavault_sent_bytes",
    MetricKind.COUNTER,
    "Bytes of files that were sent to clients, by where they were read; front_server: left to the reverse proxy to send.",
    ("source",),
    preset=((DISK,), (S3,), (CACHE,), (FRONT_SERVER,)),
)
RECEIVED_BYTES = MetricFamily(
    "mediavault_received_bytes",
    MetricKind.COUNTER,
    "Bytes of request bodies, by protocol of the upload; json: of all other requests.",
    ("protocol",),
    preset=(*((protocol,) for protocol in UPLOAD_PROTOCOLS), ("json",)),
)
UPLOADS = MetricFamily(
    "mediavault_uploads",
    MetricKind.COUNTER,
    "Uploads that have ended, by protocol and outcome.",
    ("protocol", "outcome"),
    preset=tuple(product(UPLOAD_PROTOCOLS, UPLOAD_OUTCOMES)),
)
STORAGE_DURATION = MetricFamily(
    "mediavault_storage_operation_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time that calls of the storage took, without time spent waiting for clients.",
    ("backend", "operation", "outcome"),
    _STORAGE_BUCKETS,
)
STORAGE_BYTES = MetricFamily(
    "mediavault_storage_io_bytes",
    MetricKind.COUNTER,
    "Bytes that were read from and written to the storage, for whatever purpose.",
    ("backend", "direction"),
    preset=tuple(product(("local", "s3"), ("read", "write"))),
)
STORAGE_RETRIES = MetricFamily(
    "mediavault_storage_retries",
    MetricKind.COUNTER,
    "Requests to the store that repeated another one.",
    ("backend",),
    preset=(("s3",),),
)
OPEN_STREAMS = MetricFamily(
    "mediavault_open_streams",
    MetricKind.GAUGE,
    "Objects that are being read or written.",
    ("backend", "direction"),
)
S3_CONNECTIONS = MetricFamily(
    "mediavault_s3_connections",
    MetricKind.GAUGE,
    "Connections to the store that carry a request, and requests that wait for a connection.",
    ("pool", "state"),
)
CACHE_LOOKUPS = MetricFamily(
    "mediavault_cache_lookups",
    MetricKind.COUNTER,
    "Blocks that reads from S3 asked the cache for. miss: fetched and cached; bypass: fetched, but not cached.",
    ("result",),
    preset=(("hit",), ("miss",), ("bypass",)),
)
CACHE_BYTES = MetricFamily(
    "mediavault_cache_io_bytes",
    MetricKind.COUNTER,
    "Bytes of blocks that were read from and written to the cache.",
    ("direction",),
    preset=(("read",), ("write",)),
)
CACHE_EVICTIONS = MetricFamily(
    "mediavault_cache_evictions", MetricKind.COUNTER, "Blocks that were evicted to make room.", preset=((),)
)
CACHE_FAILURES = MetricFamily(
    "mediavault_cache_failures",
    MetricKind.COUNTER,
    "Blocks that were found damaged, calls of the cache's disk that failed, and files that could not be evicted.",
    ("kind",),
    preset=(("damaged",), ("disk",), ("eviction",)),
)
DATABASE_CONNECTIONS = MetricFamily(
    "db_client_connection_count",
    MetricKind.GAUGE,
    "Connections of the pools of the database.",
    ("db_client_connection_pool_name", "db_client_connection_state"),
)
DATABASE_CONNECTIONS_MAX = MetricFamily(
    "db_client_connection_max",
    MetricKind.GAUGE,
    "Connections that a pool of the database may have.",
    ("db_client_connection_pool_name",),
)
DATABASE_PENDING = MetricFamily(
    "db_client_connection_pending_requests",
    MetricKind.GAUGE,
    "Calls that wait for a connection of a pool of the database.",
    ("db_client_connection_pool_name",),
)
TASK_DURATION = MetricFamily(
    "mediavault_task_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time that attempts at tasks took.",
    ("kind", "outcome"),
    _TASK_BUCKETS,
    preset=tuple(product(TASK_KINDS, TASK_OUTCOMES)),
)
STAGING_BYTES = MetricFamily(
    "mediavault_staging_bytes", MetricKind.GAUGE, "Bytes that are reserved in the staging folders."
)
LOOP_LAG = MetricFamily(
    "mediavault_event_loop_lag_seconds",
    MetricKind.HISTOGRAM,
    "How late a timer of each process's event loop was.",
    buckets=_LAG_BUCKETS,
)
PROCESSES = MetricFamily("mediavault_processes", MetricKind.GAUGE, "Processes that these metrics are the sum of.")
BUILD_INFO = MetricFamily(
    "mediavault_build_info", MetricKind.GAUGE, "Always 1; the labels tell the versions.", ("version", "python_version")
)

PROCESS_FAMILIES = (
    HTTP_DURATION,
    HTTP_ACTIVE,
    FIRST_BYTE,
    CLIENT_CONNECTIONS,
    TRANSFERS,
    TRANSFER_LIMIT,
    TRANSFERS_REFUSED,
    SENT_BYTES,
    RECEIVED_BYTES,
    UPLOADS,
    STORAGE_DURATION,
    STORAGE_BYTES,
    STORAGE_RETRIES,
    OPEN_STREAMS,
    S3_CONNECTIONS,
    CACHE_LOOKUPS,
    CACHE_BYTES,
    CACHE_EVICTIONS,
    CACHE_FAILURES,
    DATABASE_CONNECTIONS,
    DATABASE_CONNECTIONS_MAX,
    DATABASE_PENDING,
    TASK_DURATION,
    STAGING_BYTES,
    LOOP_LAG,
)
"""Those that each process has in its segment; they are exported as sums."""

TASKS_QUEUED = MetricFamily(
    "mediavault_task_queue_tasks",
    MetricKind.GAUGE,
    "Tasks of the installation. delayed: pending ones whose next attempt is not due yet.",
    ("kind", "state"),
)
QUEUE_AGE = MetricFamily(
    "mediavault_task_queue_oldest_seconds",
    MetricKind.GAUGE,
    "For how long the most overdue task has waited; 0 where none is due.",
    ("kind",),
)
SWEEP_BACKLOG = MetricFamily(
    "mediavault_sweep_backlog_files", MetricKind.GAUGE, "Files that the sweeper may delete by now, at most 100,000."
)
SWEEP_AGE = MetricFamily(
    "mediavault_sweep_backlog_oldest_seconds", MetricKind.GAUGE, "For how long the first of them has waited; 0 if none."
)
VERIFY_FINDINGS = MetricFamily(
    "mediavault_verify_findings", MetricKind.GAUGE, "Problems that the last `mediavault verify` found.", ("problem",)
)
VERIFY_UNREPAIRED = MetricFamily(
    "mediavault_verify_unrepaired_findings", MetricKind.GAUGE, "Those of them that it did not repair."
)
VERIFY_TIME = MetricFamily(
    "mediavault_verify_timestamp_seconds", MetricKind.GAUGE, "When the last `mediavault verify` ended, in Unix time."
)
MOVE_FILES = MetricFamily(
    "mediavault_move_files", MetricKind.GAUGE, "Files of the unfinished move between disk and S3, by state.", ("state",)
)
MOVE_BYTES = MetricFamily("mediavault_move_bytes", MetricKind.GAUGE, "Bytes of these files.", ("state",))
MOVE_PROBLEMS = MetricFamily("mediavault_move_problems", MetricKind.GAUGE, "Files of that move that have a problem.")
MOUNTS = MetricFamily(
    "mediavault_mounts", MetricKind.GAUGE, "Media folders and external libraries, by state.", ("kind", "state")
)
COLLECTOR_SUCCESS = MetricFamily(
    "mediavault_collector_success",
    MetricKind.GAUGE,
    "1 where the values of this group are current; 0 where database or mount did not answer in time.",
    ("collector",),
)

INSTALLATION_FAMILIES = (
    TASKS_QUEUED,
    QUEUE_AGE,
    SWEEP_BACKLOG,
    SWEEP_AGE,
    VERIFY_FINDINGS,
    VERIFY_UNREPAIRED,
    VERIFY_TIME,
    MOVE_FILES,
    MOVE_BYTES,
    MOVE_PROBLEMS,
    MOUNTS,
    COLLECTOR_SUCCESS,
)
"""Those that are read from database and mounts when they are asked for: the same from every host."""

ALL_FAMILIES = (*PROCESS_FAMILIES, PROCESSES, BUILD_INFO, *INSTALLATION_FAMILIES)
