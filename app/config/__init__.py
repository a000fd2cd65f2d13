"""The settings, grouped by subject: their names in the environment, defaults, descriptions and checks. It reads no
other files than `.env` and secret files."""

from app.config.fields import GIBIBYTE, MEBIBYTE, SettingsError
from app.config.media import TranscodeEncoder
from app.config.offload import OffloadMode
from app.config.s3 import S3Checksums, S3Delivery, S3Encryption
from app.config.server import LogFormat, LogLevel
from app.config.settings import Settings, load_settings, prefix_setting_name, read_secret_files, setting_names
from app.config.storage import CacheOriginals, StorageEngine

__all__ = [
    "GIBIBYTE",
    "MEBIBYTE",
    "CacheOriginals",
    "LogFormat",
    "LogLevel",
    "OffloadMode",
    "S3Checksums",
    "S3Delivery",
    "S3Encryption",
    "Settings",
    "SettingsError",
    "StorageEngine",
    "TranscodeEncoder",
    "load_settings",
    "prefix_setting_name",
    "read_secret_files",
    "setting_names",
]
