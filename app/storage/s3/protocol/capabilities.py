"""`StoreCapabilities`: which S3 features a store lacks, recorded as long as the client lives, and logged once.

Sends no requests itself. A feature counts as present until a request shows otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import structlog

log = structlog.get_logger(__name__)


class S3Feature(StrEnum):
    """A part of S3 that some stores refuse or ignore; the value is its name in logs and reports."""

    PUT_CHECKSUM = "CRC32 on PutObject"
    PART_CHECKSUM = "CRC32 on UploadPart"
    MULTIPART_CHECKSUM = "checksum algorithm on CreateMultipartUpload"
    FULL_OBJECT_CHECKSUM = "full-object CRC32 on CreateMultipartUpload"
    COMPLETE_CHECKSUM = "CRC32 of parts on CompleteMultipartUpload"
    CONDITIONAL_PUT = "If-None-Match on PutObject"
    CONDITIONAL_COMPLETE = "If-None-Match on CompleteMultipartUpload"
    CONDITIONAL_COPY = "If-None-Match on CopyObject"
    COPY_SOURCE_MATCH = "x-amz-copy-source-if-match"
    IF_MATCH = "If-Match on GetObject"
    RANGE = "Range on GetObject"
    BATCH_DELETE = "DeleteObjects"
    LIST_UPLOADS = "ListMultipartUploads"
    START_AFTER = "start-after of ListObjectsV2"
    CONTINUATION_TOKEN = "continuation token of ListObjectsV2"  # noqa: S105 - no password
    KEY_ENCODING = "encoding-type of ListObjectsV2"
    ETAG = "ETag"
    LAST_MODIFIED = "Last-Modified"
    HEAD_LENGTH = "Content-Length of HeadObject"


CHECKSUM_FEATURES = frozenset(
    {
        S3Feature.PUT_CHECKSUM,
        S3Feature.PART_CHECKSUM,
        S3Feature.MULTIPART_CHECKSUM,
        S3Feature.FULL_OBJECT_CHECKSUM,
        S3Feature.COMPLETE_CHECKSUM,
    }
)
"""The features that need checksum fields."""


class StoreCapabilities:
    """The known capabilities of one store. One object per client."""

    def __init__(self, missing: Iterable[S3Feature] = ()) -> None:
        """`missing`: features that the settings switch off."""
        self._missing: dict[S3Feature, str] = dict.fromkeys(missing, "switched off by the settings")
        self._confirmed: set[S3Feature] = set()

    def has(self, feature: S3Feature) -> bool:
        """True unless the feature is known to be missing."""
        return feature not in self._missing

    def is_known(self, feature: S3Feature) -> bool:
        """True where the feature is confirmed or missing."""
        return feature in self._missing or feature in self._confirmed

    def mark_confirmed(self, feature: S3Feature) -> None:
        """Record that a request has shown that the feature works."""
        self._confirmed.add(feature)

    def mark_missing(self, feature: S3Feature, reason: str) -> None:
        """Record that the feature is missing. `reason` is logged and reported, so it must hold no secrets."""
        if feature not in self._missing:
            self._missing[feature] = reason
            log.warning("the store lacks a feature of S3, working without it", feature=feature.value, reason=reason)

    @property
    def missing(self) -> Mapping[S3Feature, str]:
        """Missing features with reasons, in the order of their detection."""
        return MappingProxyType(self._missing)

    @property
    def confirmed(self) -> frozenset[S3Feature]:
        """Features that requests have shown to work."""
        return frozenset(self._confirmed)
