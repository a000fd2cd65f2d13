"""Time limits of the connections to the database, in seconds. Read them as attributes of this module."""

from __future__ import annotations

POOL_TIMEOUT_SECONDS = 30
"""How long a call waits for a free connection."""
BUSY_SECONDS = 15
"""How long a write waits for a lock that another process holds."""
STATEMENT_SECONDS = 60
TRANSACTION_SECONDS = 90
"""How long a transaction may take in PostgreSQL. This limit is enforced here, because a stopped server process enforces
none of its own."""
CONNECT_SECONDS = 10
