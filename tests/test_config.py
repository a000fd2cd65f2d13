"""Settings: an invalid value is reported in one line that names the setting, and secrets are never printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.config import S3Encryption, SettingsError, StorageEngine, load_settings, setting_names

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without settings, and a working folder without `.env`."""
    for name in set(os.environ) & setting_names():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_text(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> str:
    """The error text for the settings of `environment`."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    return str(refusal.value)


S3 = {"IMMICH_STORAGE_ENGINE": "s3", "S3_BUCKET": "photos"}

WRONG = [
    ({"IMMICH_PORT": "http"}, "IMMICH_PORT: "),
    ({"IMMICH_PORT": "0"}, "IMMICH_PORT: "),
    ({"IMMICH_PORT": "65536"}, "IMMICH_PORT: "),
    ({"IMMICH_LOG_LEVEL": "chatty"}, "IMMICH_LOG_LEVEL: "),
    ({"MEDIAVAULT_LOG_FORMAT": "xml"}, "MEDIAVAULT_LOG_FORMAT: "),
    ({"MEDIAVAULT_PUBLIC_URL": "photos.example.org"}, "MEDIAVAULT_PUBLIC_URL: "),
    ({"MEDIAVAULT_PUBLIC_URL": "https://photos.example.org:99999"}, "MEDIAVAULT_PUBLIC_URL: "),
    ({"MEDIAVAULT_PUBLIC_URL": "https://photos.example.org?a=b"}, "MEDIAVAULT_PUBLIC_URL: "),
    ({"DB_URL": "mysql://root@localhost/photos"}, "DB_URL: "),
    ({"DB_URL": "postgresql://"}, "DB_URL: "),
    ({"DB_URL": "catalogue.db"}, "DB_URL: "),
    ({"DB_URL": "sqlite://catalogue.db"}, "DB_URL: names no file"),
    ({"DB_URL": "sqlite:///"}, "DB_URL: names no file"),
    ({"DB_URL": "sqlite:///:memory:"}, "DB_URL: names no file"),
    ({"DB_URL": "sqlite:///a.db?mode=ro"}, "DB_URL: sqlite takes no parameters"),
    ({"IMMICH_STORAGE_ENGINE": "ftp"}, "IMMICH_STORAGE_ENGINE: "),
    ({"MEDIAVAULT_FSYNC": "perhaps"}, "MEDIAVAULT_FSYNC: "),
    ({"IMMICH_IGNORE_MOUNT_CHECK_ERRORS": "2"}, "IMMICH_IGNORE_MOUNT_CHECK_ERRORS: "),
    ({"IMMICH_STORAGE_ENGINE": "s3"}, "S3_BUCKET is not set"),
    ({"S3_BUCKET": "photos/2024"}, "S3_BUCKET: "),
    ({"S3_BUCKET": "ab"}, "S3_BUCKET: "),
    (S3 | {"S3_ENDPOINT": "localhost:8333"}, "S3_ENDPOINT: "),
    (S3 | {"S3_ENDPOINT": "http://"}, "S3_ENDPOINT: "),
    (S3 | {"S3_PREFIX": "a//b"}, "S3_PREFIX: "),
    (S3 | {"S3_PREFIX": "a/../b"}, "S3_PREFIX: "),
    (S3 | {"S3_PREFIX": "a\\b"}, "S3_PREFIX: "),
    (S3 | {"S3_PREFIX": "a\tb"}, "S3_PREFIX: "),
    (S3 | {"S3_PREFIX": "p" * 513}, "S3_PREFIX: "),
    (S3 | {"S3_SSE": "yes"}, "S3_SSE: "),
    (S3 | {"S3_SSE_KMS_KEY_ID": "key"}, "S3_SSE_KMS_KEY_ID is set"),
    (S3 | {"S3_SSE": "S3", "S3_SSE_KMS_KEY_ID": "key"}, "S3_SSE_KMS_KEY_ID is set"),
    (S3 | {"S3_USE_ACCELERATE": "true", "S3_FORCE_PATH_STYLE": "true"}, "S3_USE_ACCELERATE and S3_FORCE_PATH_STYLE"),
    (S3 | {"S3_USE_ACCELERATE": "true", "S3_ENDPOINT": "http://localhost:8333"}, "S3_USE_ACCELERATE and S3_ENDPOINT"),
    (S3 | {"S3_ACCESS_KEY_ID": "key"}, "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY"),
    (S3 | {"S3_SECRET_ACCESS_KEY": SECRET}, "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY"),
    (S3 | {"S3_DELIVERY": "pigeon"}, "S3_DELIVERY: "),
    (S3 | {"MEDIAVAULT_S3_CHECKSUMS": "md5"}, "MEDIAVAULT_S3_CHECKSUMS: "),
    (S3 | {"MEDIAVAULT_S3_DEADLINE": "0"}, "MEDIAVAULT_S3_DEADLINE: "),
    (S3 | {"MEDIAVAULT_S3_DEADLINE": "inf"}, "MEDIAVAULT_S3_DEADLINE: "),
    (S3 | {"MEDIAVAULT_S3_DEADLINE": "601"}, "MEDIAVAULT_S3_DEADLINE: "),
    (S3 | {"MEDIAVAULT_S3_LINK_SECONDS": "604801"}, "MEDIAVAULT_S3_LINK_SECONDS: "),
    ({"MEDIAVAULT_STAGING_FOLDER": "data/media/staging"}, "MEDIAVAULT_STAGING_FOLDER lies in IMMICH_MEDIA_LOCATION"),
    ({"MEDIAVAULT_STAGING_FOLDER": "./data/media"}, "MEDIAVAULT_STAGING_FOLDER lies in IMMICH_MEDIA_LOCATION"),
    ({"MEDIAVAULT_STAGING_LIMIT": "10GB"}, "MEDIAVAULT_STAGING_LIMIT: "),
    ({"MEDIAVAULT_UPLOAD_LIMIT": "64GB"}, "MEDIAVAULT_UPLOAD_LIMIT: "),
    ({"MEDIAVAULT_UPLOAD_IDLE_SECONDS": "nan"}, "MEDIAVAULT_UPLOAD_IDLE_SECONDS: "),
    ({"MEDIAVAULT_TRASH_DAYS": "-1"}, "MEDIAVAULT_TRASH_DAYS: "),
    ({"MEDIAVAULT_OFFLOAD": "nginx"}, "MEDIAVAULT_OFFLOAD: "),
    ({"MEDIAVAULT_OFFLOAD": "x-accel"}, "MEDIAVAULT_OFFLOAD_SECRET is not set"),
    ({"MEDIAVAULT_OFFLOAD_SECRET": "0123456789012345678"}, "MEDIAVAULT_OFFLOAD_SECRET: "),
    ({"MEDIAVAULT_OFFLOAD_SECRET": '0123456789"; allow all'}, "MEDIAVAULT_OFFLOAD_SECRET: "),
    (
        {"MEDIAVAULT_OFFLOAD": "x-sendfile", "MEDIAVAULT_OFFLOAD_SECRET": "a" * 20},
        "MEDIAVAULT_TRUSTED_PROXIES is not set",
    ),
    ({"MEDIAVAULT_UPLOAD_LIMITS": "1"}, "MEDIAVAULT_UPLOAD_LIMITS is no setting"),
    ({"MEDIAVAULT_FSYNC_FILE": "/run/secrets/fsync"}, "MEDIAVAULT_FSYNC_FILE is no setting"),
]


@pytest.mark.parametrize(("environment", "start"), WRONG, ids=[f"{e}"[:60] for e, _ in WRONG])
def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], start: str
) -> None:
    text = error_text(monkeypatch, environment)
    assert text.startswith(start)
    assert "\n" not in text


@pytest.mark.parametrize(
    "environment",
    [
        {"DB_URL": f"mysql://root:{SECRET}@localhost/photos"},
        {"DB_URL": f"sqlite://root:{SECRET}@localhost"},
        {"S3_ENDPOINT": f"http://root:{SECRET}@localhost"},
        {"S3_ENDPOINT": f"http://root:{SECRET}@loc\u2100alhost"},
        {"MEDIAVAULT_PUBLIC_URL": f"http://root:{SECRET}@[localhost"},
        {"S3_SECRET_ACCESS_KEY": SECRET},
        {"S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": SECRET, "S3_SECRET_ACCESS_KEY_FILE": "secret"},
    ],
)
def test_no_secret_in_an_error(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    assert SECRET not in error_text(monkeypatch, environment)


def test_no_secret_in_the_text_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", f"postgresql://mediavault:{SECRET}@localhost/photos")
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", SECRET)
    settings = load_settings()
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == SECRET
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_URL", f"postgresql://mediavault:{SECRET}@localhost/photos"),
        ("S3_ACCESS_KEY_ID", "key"),
        ("S3_SECRET_ACCESS_KEY", SECRET),
    ],
)
def test_a_secret_comes_from_a_file(
    monkeypatch: pytest.MonkeyPatch, clean_environment: Path, name: str, value: str
) -> None:
    (clean_environment / "secret").write_text(value + "\n", encoding="utf-8")
    monkeypatch.setenv("S3_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "other")
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{name}_FILE", "secret")
    settings = load_settings()
    found = {
        "DB_URL": settings.db_url.get_secret_value(),
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key and settings.s3_secret_access_key.get_secret_value(),
    }
    assert found[name] == value


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    (clean_environment / "secret").write_text("sqlite:///a.db", encoding="utf-8")
    text = error_text(monkeypatch, {"DB_URL": "sqlite:///b.db", "DB_URL_FILE": "secret"})
    assert text == "DB_URL and DB_URL_FILE are both set"


def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    missing = error_text(monkeypatch, {"DB_URL_FILE": "nowhere"})
    assert missing == "DB_URL_FILE: cannot read 'nowhere': No such file or directory"
    (clean_environment / "binary").write_bytes(b"\xff\xfe")
    assert error_text(monkeypatch, {"DB_URL_FILE": "binary"}) == "DB_URL_FILE: cannot read 'binary': not UTF-8 text"
    (clean_environment / "empty").write_text("\n", encoding="utf-8")
    assert error_text(monkeypatch, {"DB_URL_FILE": "empty"}) == "DB_URL_FILE: 'empty' is empty"


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names():
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.port == 2283
    assert settings.storage_engine is StorageEngine.LOCAL
    assert settings.s3_endpoint is None
    assert settings.s3_secret_access_key is None


def test_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    (clean_environment / ".env").write_text("IMMICH_PORT=4000\nIMMICH_HOST=0.0.0.0\nUNRELATED=1\n", encoding="utf-8")
    monkeypatch.setenv("IMMICH_PORT", "5000")
    settings = load_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 5000)


def test_env_file_with_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    (clean_environment / ".env").write_text("MEDIAVAULT_FSINC=1\n", encoding="utf-8")
    assert error_text(monkeypatch, {}).startswith("MEDIAVAULT_FSINC is no setting")


def test_env_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    (clean_environment / ".env").write_bytes(b"IMMICH_HOST=\xff\xfe\n")
    assert error_text(monkeypatch, {}) == ".env: cannot be read: not UTF-8 text"
    (clean_environment / ".env").unlink()
    (clean_environment / ".env").mkdir()
    assert error_text(monkeypatch, {}) == ".env: cannot be read: Is a directory"


@pytest.mark.parametrize(
    "text",
    [
        "# S3\nIMMICH_STORAGE_ENGINE s3\n",
        "IMMICH_PORT=4000\n= s3\n",
        'IMMICH_PORT=4000\nS3_BUCKET="photos\nS3_PREFIX=family\n',
    ],
    ids=["no equals sign", "no name", "no closing quote"],
)
def test_a_line_of_the_env_file_that_says_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, clean_environment: Path, text: str
) -> None:
    (clean_environment / ".env").write_text(text, encoding="utf-8")
    assert error_text(monkeypatch, {}) == ".env: line 2 is no NAME=value"


def test_ways_to_write_the_env_file(clean_environment: Path) -> None:
    text = "\ufeff# ours\r\n\r\nexport IMMICH_PORT = '4000' # there\r\nIMMICH_HOST=\"::1\"\r\nS3_BUCKET\r\nA.B-C=1\r\n"
    (clean_environment / ".env").write_bytes(text.encode())
    settings = load_settings()
    assert (settings.host, settings.port, settings.s3_bucket) == ("::1", 4000, None)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("S3", S3Encryption.S3),
        ("AES256", S3Encryption.S3),
        ("KMS", S3Encryption.KMS),
        ("aws:kms", S3Encryption.KMS),
    ],
)
def test_names_of_encryption(monkeypatch: pytest.MonkeyPatch, text: str, meaning: S3Encryption) -> None:
    monkeypatch.setenv("S3_SSE", text)
    assert load_settings().s3_sse is meaning


def test_addresses_and_prefix_lose_their_outer_slashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_PREFIX", "/family/photos/")
    monkeypatch.setenv("S3_ENDPOINT", "http://localhost:8333/")
    settings = load_settings()
    assert settings.s3_prefix == "family/photos"
    assert settings.s3_endpoint == "http://localhost:8333"


def test_a_relative_media_location_is_made_absolute(clean_environment: Path) -> None:
    assert load_settings().media_location == clean_environment / "data" / "media"


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", set()),
        ("*", {"*"}),
        (" https://A.example , http://localhost:3000,", {"https://a.example", "http://localhost:3000"}),
    ],
)
def test_origins_of_other_pages(monkeypatch: pytest.MonkeyPatch, value: str, origins: set[str]) -> None:
    monkeypatch.setenv("MEDIAVAULT_CORS_ORIGINS", value)
    assert load_settings().allowed_origins == origins


@pytest.mark.parametrize(
    "value",
    [
        "a.example",
        "https://",
        "https://a.example/",
        "https://a.example/x",
        "https://u@a.example",
        "https://a:0",
        "https://ä.example",
    ],
)
def test_what_is_no_origin(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MEDIAVAULT_CORS_ORIGINS", value)
    with pytest.raises(SettingsError, match="MEDIAVAULT_CORS_ORIGINS"):
        load_settings()
