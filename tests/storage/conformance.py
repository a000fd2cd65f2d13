"""The guarantees of storage (DESIGN 4.1) as one suite: every backend, and every wrapper around one, passes it unchanged.

A test class inherits `Conformance` and gives a `place` fixture (see `conftest.py`).
"""

from __future__ import annotations

from tests.storage.guarantees.deletes import Deletes
from tests.storage.guarantees.kills import Kills
from tests.storage.guarantees.listing import Listing
from tests.storage.guarantees.names import Names
from tests.storage.guarantees.places import Places
from tests.storage.guarantees.reads import Reads
from tests.storage.guarantees.stalls import Stalls
from tests.storage.guarantees.writes import Writes


class Conformance(Names, Reads, Writes, Kills, Listing, Deletes, Stalls, Places):
    """All of it."""
