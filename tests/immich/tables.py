"""The tables of Immich, as TAKEOVER's facts have them: names of tables and columns, their types and defaults. In two generations: before
and after `asset_file` took sidecars and encoded videos."""

from __future__ import annotations

from enum import StrEnum


class Generation(StrEnum):
    V2 = "v2"
    V3 = "v3"


_COMMON = """
CREATE FUNCTION immich_uuid_v7() RETURNS uuid AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
        || substr(gen_random_uuid()::text, 16, 3) || replace(substr(gen_random_uuid()::text, 20), '-', ''))::uuid $$ LANGUAGE sql VOLATILE;
CREATE TYPE asset_visibility_enum AS ENUM ('archive', 'timeline', 'hidden', 'locked');
CREATE TYPE assets_status_enum AS ENUM ('active', 'trashed', 'deleted');
CREATE TABLE "user" (
    id uuid PRIMARY KEY, email varchar NOT NULL UNIQUE, name varchar NOT NULL DEFAULT '', password varchar NOT NULL DEFAULT '',
    "isAdmin" boolean NOT NULL DEFAULT false, "storageLabel" varchar UNIQUE, "quotaSizeInBytes" bigint, "quotaUsageInBytes" bigint
    NOT NULL DEFAULT 0, "profileImagePath" varchar NOT NULL DEFAULT '', "profileChangedAt" timestamptz NOT NULL DEFAULT now(),
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(), "deletedAt" timestamptz,
    status varchar NOT NULL DEFAULT 'active', "oauthId" varchar NOT NULL DEFAULT '', "shouldChangePassword" boolean NOT NULL
    DEFAULT true, "avatarColor" varchar, "updateId" uuid NOT NULL DEFAULT immich_uuid_v7());
CREATE TABLE api_key (
    id uuid PRIMARY KEY, name varchar NOT NULL, key {key} NOT NULL, "userId" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE,
    permissions varchar[] NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE session (
    id uuid PRIMARY KEY, token {key} NOT NULL, "userId" uuid NOT NULL, "deviceType" varchar NOT NULL DEFAULT '', "deviceOS" varchar
    NOT NULL DEFAULT '', "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now() {session});
CREATE TABLE library (
    id uuid PRIMARY KEY, name varchar NOT NULL, "ownerId" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE, "importPaths" text[]
    NOT NULL, "exclusionPatterns" text[] NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL
    DEFAULT now(), "deletedAt" timestamptz, "refreshedAt" timestamptz);
CREATE TABLE asset (
    id uuid PRIMARY KEY, "ownerId" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE, type varchar NOT NULL, "originalPath" varchar
    NOT NULL, "originalFileName" varchar NOT NULL, "fileCreatedAt" timestamptz NOT NULL, "fileModifiedAt" timestamptz NOT NULL,
    "localDateTime" timestamptz NOT NULL, checksum bytea NOT NULL, "livePhotoVideoId" uuid REFERENCES asset ON DELETE SET NULL,
    "isFavorite" boolean NOT NULL DEFAULT false, thumbhash bytea, "isOffline" boolean NOT NULL DEFAULT false, "isExternal" boolean
    NOT NULL DEFAULT false, "libraryId" uuid REFERENCES library ON DELETE CASCADE, "deletedAt" timestamptz, status
    assets_status_enum NOT NULL DEFAULT 'active', visibility asset_visibility_enum NOT NULL DEFAULT 'timeline', "stackId" uuid,
    "duplicateId" uuid, width integer, height integer, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT
    NULL DEFAULT now(), "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(), {asset});
CREATE INDEX ON asset ("ownerId", checksum);
CREATE INDEX ON asset ("originalPath");
CREATE TABLE asset_audit (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "assetId" uuid NOT NULL, "ownerId" uuid NOT NULL, "deletedAt" timestamptz NOT NULL
    DEFAULT clock_timestamp());
CREATE FUNCTION asset_delete_audit() RETURNS trigger AS $$ BEGIN
    INSERT INTO asset_audit ("assetId", "ownerId") SELECT id, "ownerId" FROM gone; RETURN NULL; END $$ LANGUAGE plpgsql;
CREATE TRIGGER asset_delete_audit AFTER DELETE ON asset REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION asset_delete_audit();
CREATE TABLE asset_file (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "assetId" uuid NOT NULL REFERENCES asset ON DELETE CASCADE, type varchar NOT
    NULL, path varchar NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7() {asset_file});
CREATE INDEX ON asset_file ("assetId");
CREATE TABLE asset_exif (
    "assetId" uuid PRIMARY KEY REFERENCES asset ON DELETE CASCADE, make varchar, model varchar, "exifImageWidth" integer,
    "exifImageHeight" integer, "fileSizeInByte" bigint, orientation varchar, "dateTimeOriginal" timestamptz, "modifyDate"
    timestamptz, "lensModel" varchar, "fNumber" double precision, "focalLength" double precision, iso integer, latitude double
    precision, longitude double precision, city varchar, state varchar, country varchar, description text NOT NULL DEFAULT '', fps
    double precision, "exposureTime" varchar, "timeZone" varchar, "projectionType" varchar, rating integer, colorspace varchar,
    "bitsPerSample" integer, "updatedAt" timestamptz NOT NULL DEFAULT now(), "updateId" uuid NOT NULL DEFAULT immich_uuid_v7());
CREATE TABLE person (
    id uuid PRIMARY KEY, "ownerId" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE, name varchar NOT NULL DEFAULT '',
    "thumbnailPath" varchar NOT NULL DEFAULT '', "isHidden" boolean NOT NULL DEFAULT false, "isFavorite" boolean NOT NULL DEFAULT
    false, "birthDate" date, "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(), "updateId"
    uuid NOT NULL DEFAULT immich_uuid_v7());
CREATE TABLE album (id uuid PRIMARY KEY, "albumName" varchar);
CREATE TABLE tag (id uuid PRIMARY KEY, value varchar);
CREATE TABLE shared_link (id uuid PRIMARY KEY, key bytea);
CREATE TABLE memory (id uuid PRIMARY KEY);
CREATE TABLE stack (id uuid PRIMARY KEY);
CREATE TABLE asset_face (id uuid PRIMARY KEY, "assetId" uuid);
CREATE TABLE move_history (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "entityId" uuid NOT NULL, "pathType" varchar NOT NULL, "oldPath" varchar NOT
    NULL, "newPath" varchar NOT NULL);
CREATE TABLE system_metadata (key varchar PRIMARY KEY, value jsonb NOT NULL);
CREATE TABLE version_history (id uuid PRIMARY KEY, version varchar NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION touch() RETURNS trigger AS $$ BEGIN
    NEW."updatedAt" := clock_timestamp(); NEW."updateId" := immich_uuid_v7(); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE INDEX ON asset ("updateId");
CREATE INDEX ON asset_file ("updateId");
CREATE INDEX ON asset_exif ("updateId");
CREATE INDEX ON person ("updateId");
CREATE TRIGGER touch BEFORE UPDATE ON asset FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch BEFORE UPDATE ON asset_file FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch BEFORE UPDATE ON asset_exif FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER touch BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touch();
"""

_V2 = {
    "key": "varchar",
    "asset": "\"deviceAssetId\" varchar NOT NULL DEFAULT '', \"deviceId\" varchar NOT NULL DEFAULT '', duration varchar, "
    '"encodedVideoPath" varchar DEFAULT \'\', "sidecarPath" varchar',
    "asset_file": "",
    "session": "",
}
_V3 = {
    "key": "bytea",
    "asset": 'duration integer, "checksumAlgorithm" varchar NOT NULL DEFAULT \'sha1\', "isEdited" boolean NOT NULL DEFAULT false, '
    '"invented" integer',
    "asset_file": ', "isEdited" boolean NOT NULL DEFAULT false',
    "session": ', "expiresAt" timestamptz, "pinExpiresAt" timestamptz, "parentId" uuid',
}


def build_tables(generation: Generation) -> str:
    """The statements that make the tables. Those of v3 have the column `asset.invented`, which no version has."""
    return _COMMON.format(**_V2 if generation is Generation.V2 else _V3)
