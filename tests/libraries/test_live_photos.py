"""Live photos in libraries: a video whose photo is missing is shown by itself, until the photo is back."""

from __future__ import annotations

from app.catalog.assets.derivatives import ExtractedProperties
from app.catalog.schema.records import Visibility
from tests.libraries.library_tree import LibraryTree


async def test_a_video_is_visible_while_its_photo_is_missing(tree: LibraryTree) -> None:
    photo, _ = tree.write("a/IMG_1.HEIC"), tree.write("a/IMG_1.MOV", b"video")
    for number in range(5):
        tree.write(f"a/{number}.jpg", b"%d" % number)
    await tree.scan()
    for name, asset in (await tree.assets()).items():
        identified = ExtractedProperties(exif={"livePhotoCID": "one"} if "IMG" in name else {})
        await tree.catalog.derivatives.swap_files(asset.owner_id, asset.id, [], identified)
    assert "a/IMG_1.MOV" not in await tree.names()
    shown = (await tree.assets())["a/IMG_1.HEIC"]
    content = photo.read_bytes()

    photo.rename(tree.root.parent / "kept")
    assert (await tree.scan()).trashed == 1
    assert (await tree.assets())["a/IMG_1.MOV"].visibility is Visibility.TIMELINE

    (tree.root.parent / "kept").rename(photo)
    assert (await tree.scan()).back == 1
    back = (await tree.assets())["a/IMG_1.HEIC"]
    assert (back.id, back.live_photo_video_id) == (shown.id, shown.live_photo_video_id)
    assert "a/IMG_1.MOV" not in await tree.names()
    assert photo.read_bytes() == content

    for gone in (photo, photo.with_suffix(".MOV")):
        gone.unlink()
    assert (await tree.scan()).trashed == 2
    assert {"a/IMG_1.HEIC", "a/IMG_1.MOV"} <= await tree.names(trashed=True)
