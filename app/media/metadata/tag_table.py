"""Which tags the fields of `MediaMetadata` are read from: one table, in order of precedence. Pure.

Keys are those of exiv2 (https://exiv2.org/metadata.html). The order is that of exiftool 12 (https://exiftool.org/TagNames), as Immich asks it
(`server/src/services/metadata.service.ts`, v2.5): EXIF before IPTC before XMP in files; the rating and the lens differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DateTags:
    """The keys of one date: text, fraction of a second, offset. Of IPTC, `text` is the date and `time` the time of day. `is_utc`: a moment in
    UTC without a zone."""

    text: str
    fraction: str = ""
    offset: str = ""
    time: str = ""
    is_utc: bool = False


GPS_DATE = DateTags("Exif.GPSInfo.GPSDateStamp", time="Exif.GPSInfo.GPSTimeStamp", is_utc=True)
MODIFY_DATE = DateTags("Exif.Image.DateTime", "Exif.Photo.SubSecTime", "Exif.Photo.OffsetTime")
XMP_MODIFY_DATE = DateTags("Xmp.xmp.ModifyDate")
XMP_DATE_TIME_ORIGINAL = DateTags("Xmp.exif.DateTimeOriginal")

CAPTURE_DATES = (
    DateTags("Exif.Photo.DateTimeOriginal", "Exif.Photo.SubSecTimeOriginal", "Exif.Photo.OffsetTimeOriginal"),
    DateTags("Exif.Image.DateTimeOriginal", "Exif.Photo.SubSecTimeOriginal", "Exif.Photo.OffsetTimeOriginal"),
    XMP_DATE_TIME_ORIGINAL,
    DateTags("Exif.Photo.DateTimeDigitized", "Exif.Photo.SubSecTimeDigitized", "Exif.Photo.OffsetTimeDigitized"),
    DateTags("Xmp.exif.DateTimeDigitized"),
    DateTags("Xmp.xmp.CreateDate"),
    DateTags("Iptc.Application2.DateCreated", time="Iptc.Application2.TimeCreated"),
    DateTags("Xmp.photoshop.DateCreated"),
    GPS_DATE,
    DateTags("Xmp.exif.GPSTimeStamp", is_utc=True),
    DateTags("Exif.Sony2010e.SonyDateTime"),
    DateTags("Exif.SonySInfo1.SonyDateTime"),
    DateTags("Xmp.GPano.SourceImageCreateTime"),  # Insta360
)
"""The date of modification is none of them: editors set it."""

MAKER_NOTE = "Exif.Photo.MakerNote"
"""The whole maker note, of cameras whose tags exiv2 does not know."""

MAKE = ("Exif.Image.Make", "Exif.PanasonicRaw.Make", "Xmp.tiff.Make")
MODEL = ("Exif.Image.Model", "Exif.PanasonicRaw.Model", "Xmp.tiff.Model", "Exif.Image.UniqueCameraModel")
EXPOSURE_TIME = ("Exif.Photo.ExposureTime", "Exif.Image.ExposureTime", "Xmp.exif.ExposureTime")
F_NUMBER = ("Exif.Photo.FNumber", "Exif.Image.FNumber", "Xmp.exif.FNumber")
FOCAL_LENGTH = ("Exif.Photo.FocalLength", "Exif.Image.FocalLength", "Xmp.exif.FocalLength")
ISO = (
    "Exif.Photo.ISOSpeedRatings", "Exif.Image.ISOSpeedRatings", "Exif.PanasonicRaw.ISOSpeed",
    "Exif.Photo.RecommendedExposureIndex", "Exif.Photo.StandardOutputSensitivity", "Exif.Photo.ISOSpeed",
    "Xmp.exif.ISOSpeedRatings", "Xmp.exifEX.PhotographicSensitivity", "Xmp.exifEX.RecommendedExposureIndex",
)  # fmt: skip
RATING = ("Xmp.xmp.Rating", "Exif.Image.Rating")
DESCRIPTION = (
    "Exif.Image.ImageDescription", "Iptc.Application2.Caption", "Xmp.dc.description", "Xmp.tiff.ImageDescription",
)  # fmt: skip
ORIENTATION = ("Exif.Image.Orientation", "Exif.PanasonicRaw.Orientation", "Xmp.tiff.Orientation")
PROJECTION_TYPE = ("Xmp.GPano.ProjectionType",)
WIDTH = ("Exif.Photo.PixelXDimension", "Exif.Image.ImageWidth")
HEIGHT = ("Exif.Photo.PixelYDimension", "Exif.Image.ImageLength")

POSITIONS = (
    (
        "Exif.GPSInfo.GPSLatitude", "Exif.GPSInfo.GPSLatitudeRef",
        "Exif.GPSInfo.GPSLongitude", "Exif.GPSInfo.GPSLongitudeRef",
    ),
    ("Xmp.exif.GPSLatitude", "Xmp.exif.GPSLatitudeRef", "Xmp.exif.GPSLongitude", "Xmp.exif.GPSLongitudeRef"),
)  # fmt: skip

LENS_IDS = (
    "Exif.CanonCs.LensType", "Exif.CanonFi.RFLensType", "Exif.NikonLd4.LensID", "Exif.NikonLd4.LensIDNumber",
    "Exif.NikonLd3.LensIDNumber", "Exif.NikonLd2.LensIDNumber", "Exif.NikonLd1.LensIDNumber", "Exif.Pentax.LensType",
    "Exif.PentaxDng.LensType", "Exif.Minolta.LensID", "Exif.SonyMinolta.LensID", "Exif.Sony1.LensID", "Exif.Sony2.LensID",
    "Exif.Sony2010e.LensType2", "Exif.OlympusEq.LensType", "Exif.Samsung2.LensType",
)  # fmt: skip
"""Numbers in maker notes, which exiv2 translates to names."""

LENS_NAMES = (
    "Exif.Canon.LensModel", "Exif.OlympusEq.LensModel", "Exif.Panasonic.LensType", "Xmp.aux.Lens", "Xmp.exifEX.LensModel",
    "Exif.Photo.LensModel", "Exif.Image.LensInfo",
)  # fmt: skip

WANTED_KEYS = frozenset(
    key
    for keys in (
        MAKE, MODEL, EXPOSURE_TIME, F_NUMBER, FOCAL_LENGTH, ISO, RATING, DESCRIPTION, ORIENTATION, PROJECTION_TYPE, WIDTH, HEIGHT,
        *POSITIONS, LENS_IDS, LENS_NAMES, (MAKER_NOTE,),
        *((tags.text, tags.fraction, tags.offset, tags.time) for tags in (*CAPTURE_DATES, MODIFY_DATE, XMP_MODIFY_DATE)),
    )
    for key in keys
    if key
)  # fmt: skip
