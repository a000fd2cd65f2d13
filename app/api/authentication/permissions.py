"""Permissions of API keys, with Immich's names: those that this service checks, and `all`."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    ALL = "all"
    API_KEY_CREATE = "apiKey.create"
    API_KEY_READ = "apiKey.read"
    API_KEY_UPDATE = "apiKey.update"
    API_KEY_DELETE = "apiKey.delete"
    ASSET_READ = "asset.read"
    ASSET_UPDATE = "asset.update"
    ASSET_DELETE = "asset.delete"
    ASSET_STATISTICS = "asset.statistics"
    ASSET_VIEW = "asset.view"
    ASSET_DOWNLOAD = "asset.download"
    ASSET_UPLOAD = "asset.upload"
    LIBRARY_CREATE = "library.create"
    LIBRARY_READ = "library.read"
    LIBRARY_UPDATE = "library.update"
    LIBRARY_DELETE = "library.delete"
    LIBRARY_STATISTICS = "library.statistics"
    FOLDER_READ = "folder.read"
    JOB_READ = "job.read"
    JOB_CREATE = "job.create"
    PERSON_READ = "person.read"
    PERSON_UPDATE = "person.update"
    SERVER_ABOUT = "server.about"
    SERVER_STORAGE = "server.storage"
    SERVER_STATISTICS = "server.statistics"
    SERVER_VERSION_CHECK = "server.versionCheck"
    USER_READ = "user.read"
    USER_PROFILE_IMAGE_READ = "userProfileImage.read"
    USER_PROFILE_IMAGE_UPDATE = "userProfileImage.update"
    USER_PROFILE_IMAGE_DELETE = "userProfileImage.delete"
