"""What the storage is told of foreign files."""

from __future__ import annotations

from typing import cast
from unittest.mock import Mock

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogUnreachable
from app.catalog.moves.kept_copies import KeptCopyRepository
from app.libraries.import_paths.link_roots import update_foreign_roots
from app.storage.errors import CopyLookupFailed
from app.storage.foreign_reads import FindCopy
from app.storage.service import StorageService


async def test_an_outage_of_the_catalogue_does_not_mean_that_there_is_no_copy(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Mock(spec=StorageService)
    await update_foreign_roots(catalog, storage)
    find_copy = cast("FindCopy", storage.set_copy_lookup.call_args.args[0])
    assert await find_copy("/photos/1.jpg") is None

    async def fail(_repository: KeptCopyRepository, _path: str) -> None:
        raise CatalogUnreachable("no connection")

    monkeypatch.setattr(KeptCopyRepository, "find", fail)
    with pytest.raises(CopyLookupFailed):
        await find_copy("/photos/1.jpg")
