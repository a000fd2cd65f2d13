"""A crash of exiv2's bindings is an error of the file that was read, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.formats import find_format
from app.media.errors import WorkerCrashed
from app.media.processor import MediaProcessor
from app.media.sandbox.result_parsing import parse_result
from app.media.sandbox.sandbox import Sandbox
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.media.sandbox_scripts import script_request

ERASE_BEHIND_THE_LAST_TAG = """
    import sys
    sys.path.append(sys.argv[1])
    import exiv2
    tags = exiv2.ExifData()
    tags.erase(tags.end())
"""
"""An iterator at its end ends the process (exiv2 0.19.2, libexiv2 0.28.9)."""


async def test_an_iterator_at_its_end(sandbox: Sandbox, processor: MediaProcessor, folder: Path) -> None:
    exiv2 = pytest.importorskip("exiv2")
    packages = str(Path(exiv2.__file__).parents[1])
    request = script_request(ERASE_BEHIND_THE_LAST_TAG, folder, packages)
    result = await sandbox.run(replace(request, readable=(packages,)))
    with pytest.raises(WorkerCrashed):
        parse_result(result)
    photo = folder / "photo.jpg"
    photo.write_bytes(encode_jpeg(make_quarters(16, 16)))
    format = find_format(photo.name)
    assert format is not None
    assert (await processor.read_metadata(photo, format)).metadata.exif_image_width == 16
