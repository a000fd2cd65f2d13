"""`Conformance`: the guarantees of storage as one suite, which every backend and every wrapper around one passes unchanged.

A test class inherits `Conformance` and provides a `place` fixture (see `conftest.py`).
"""

from __future__ import annotations

from tests.storage.guarantees.deletes import DeleteGuarantees
from tests.storage.guarantees.kills import KillGuarantees
from tests.storage.guarantees.listing import ListingGuarantees
from tests.storage.guarantees.moving import MoveGuarantees
from tests.storage.guarantees.names import NameGuarantees
from tests.storage.guarantees.places import LocationGuarantees
from tests.storage.guarantees.reads import ReadGuarantees
from tests.storage.guarantees.resumable import ResumableGuarantees
from tests.storage.guarantees.resumable_kills import ResumableKillGuarantees
from tests.storage.guarantees.stalls import StallGuarantees
from tests.storage.guarantees.writes import WriteGuarantees


class Conformance(
    NameGuarantees,
    ReadGuarantees,
    WriteGuarantees,
    ResumableGuarantees,
    ResumableKillGuarantees,
    KillGuarantees,
    ListingGuarantees,
    DeleteGuarantees,
    StallGuarantees,
    LocationGuarantees,
    MoveGuarantees,
):
    """All guarantees."""
