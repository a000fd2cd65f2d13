"""Storage keys of generated files, in Immich's folders. No I/O.

Each derivative and portrait gets a random suffix: a key is never reused, so a path names the same bytes for ever.
"""

from __future__ import annotations

import secrets
from uuid import UUID

from app.catalog.schema.records import FileKind
from app.storage.key import Key

_RANDOM_BYTES = 4


def make_derivative_key(owner_id: UUID, asset_id: UUID, kind: FileKind, extension: str) -> Key:
    """`thumbs/<owner>/<aa>/<bb>/<asset>_<kind>_<8 hex>.<ext>`, or `encoded-video/…/<asset>_<8 hex>.mp4`. `extension` includes the dot."""
    if kind is FileKind.ENCODED_VIDEO:
        return Key(f"encoded-video/{_path_prefix(owner_id, asset_id)}_{_random_suffix()}{extension}")
    return Key(f"thumbs/{_path_prefix(owner_id, asset_id)}_{kind.value}_{_random_suffix()}{extension}")


def make_motion_video_key(owner_id: UUID, video_id: UUID) -> Key:
    """Key of the video extracted from a motion photo."""
    return Key(f"encoded-video/{_path_prefix(owner_id, video_id)}-MP.mp4")


def make_person_thumbnail_key(owner_id: UUID, person_id: UUID, extension: str) -> Key:
    return Key(f"thumbs/{_path_prefix(owner_id, person_id)}_{FileKind.PERSON.value}_{_random_suffix()}{extension}")


def make_profile_image_key(user_id: UUID, extension: str) -> Key:
    return Key(f"profile/{user_id}/{user_id}_{_random_suffix()}{extension}")


def _path_prefix(owner_id: UUID, entity_id: UUID) -> str:
    name = str(entity_id)
    return f"{owner_id}/{name[:2]}/{name[2:4]}/{name}"


def _random_suffix() -> str:
    return secrets.token_hex(_RANDOM_BYTES)
