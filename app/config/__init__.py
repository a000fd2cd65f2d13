"""The settings, grouped by what they concern: names in the environment, defaults, meanings and checks."""

from app.config.fields import GIBIBYTE, MEBIBYTE, SettingsError
from app.config.s3 import S3Checksums, S3Delivery, S3Encryption
from app.config.server import LogFormat, LogLevel
from app.config.settings import Settings, load_settings, prefix_setting_name, read_secret_files, setting_names
from app.config.storage import StorageEngine

__all__ = [
    "GIBIBYTE",
    "MEBIBYTE",
    "LogFormat",
    "LogLevel",
    "S3Checksums",
    "S3Delivery",
    "S3Encryption",
    "Settings",
    "SettingsError",
    "StorageEngine",
    "load_settings",
    "prefix_setting_name",
    "read_secret_files",
    "setting_names",
]
