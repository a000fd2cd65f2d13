"""Building an image takes minutes: `make soak` does it."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("MEDIAVAULT_TEST_SOAK") == "1" else ["test_*.py"]
