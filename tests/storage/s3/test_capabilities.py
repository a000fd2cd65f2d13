"""`StoreCapabilities`: missing and confirmed features."""

from __future__ import annotations

from structlog.testing import capture_logs

from app.storage.s3.protocol.capabilities import CHECKSUM_FEATURES, S3Feature, StoreCapabilities


def test_a_missing_feature_is_remembered_and_logged_once() -> None:
    capabilities = StoreCapabilities()
    assert capabilities.has(S3Feature.BATCH_DELETE)
    assert not capabilities.is_known(S3Feature.BATCH_DELETE)
    with capture_logs() as logs:
        capabilities.mark_missing(S3Feature.BATCH_DELETE, "NotImplemented")
        capabilities.mark_missing(S3Feature.BATCH_DELETE, "again")
    assert [(entry["feature"], entry["reason"]) for entry in logs] == [("DeleteObjects", "NotImplemented")]
    assert not capabilities.has(S3Feature.BATCH_DELETE)
    assert capabilities.missing == {S3Feature.BATCH_DELETE: "NotImplemented"}


def test_what_the_settings_switch_off_is_missing_from_the_start() -> None:
    capabilities = StoreCapabilities(CHECKSUM_FEATURES)
    assert not any(capabilities.has(feature) for feature in CHECKSUM_FEATURES)
    assert capabilities.has(S3Feature.CONDITIONAL_PUT)


def test_a_feature_that_was_seen_to_hold_is_known() -> None:
    capabilities = StoreCapabilities()
    capabilities.mark_confirmed(S3Feature.CONDITIONAL_PUT)
    assert capabilities.is_known(S3Feature.CONDITIONAL_PUT)
    assert capabilities.has(S3Feature.CONDITIONAL_PUT)
    assert capabilities.confirmed == {S3Feature.CONDITIONAL_PUT}
