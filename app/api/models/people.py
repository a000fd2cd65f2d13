"""Model of a request that sets a person's thumbnail: a box in a photo."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base_model import RequestModel
from app.media.processing_results import CropBox

MAX_PIXELS = 1_000_000
"""Bound of each coordinate and edge length."""


class PersonThumbnail(RequestModel):
    """Where the person is: a box within a photo, or within the preview of a video, in pixels of a rendering of `imageWidth` x
    `imageHeight`, the way it is shown. The names are those of Immich's faces."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "assetId": "6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d",
                    "x": 400,
                    "y": 300,
                    "width": 220,
                    "height": 280,
                    "imageWidth": 2160,
                    "imageHeight": 1440,
                }
            ]
        }
    )

    asset_id: UUID
    x: float = Field(ge=0, le=MAX_PIXELS, allow_inf_nan=False)
    y: float = Field(ge=0, le=MAX_PIXELS, allow_inf_nan=False)
    width: float = Field(ge=1, le=MAX_PIXELS, allow_inf_nan=False)
    height: float = Field(ge=1, le=MAX_PIXELS, allow_inf_nan=False)
    image_width: int = Field(ge=1, le=MAX_PIXELS)
    image_height: int = Field(ge=1, le=MAX_PIXELS)

    def to_box(self) -> CropBox:
        return CropBox(self.x, self.y, self.x + self.width, self.y + self.height, self.image_width, self.image_height)
