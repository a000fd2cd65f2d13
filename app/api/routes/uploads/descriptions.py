"""OpenAPI descriptions of resumable uploads: their protocols are header fields, which FastAPI cannot derive from the routes."""

from __future__ import annotations

from typing import Any

_Schema = dict[str, Any]
_Responses = dict[int | str, dict[str, Any]]

_FILE: _Schema = {"schema": {"type": "string", "format": "binary"}}
_ASSET: _Schema = {"application/json": {"schema": {"$ref": "#/components/schemas/UploadResponse"}}}


def _field(name: str, description: str, *, required: bool = False, schema: _Schema | None = None) -> _Schema:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": schema or {"type": "string"},
    }


def _headers(**descriptions: str) -> _Schema:
    return {
        name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
        for name, text in descriptions.items()
    }


_NUMBER: _Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_SHORT_NUMBER: _Schema = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
_BOOLEAN: _Schema = {"type": "string", "enum": ["?1", "?0"]}
_GONE: _Schema = {"description": "The upload has expired, failed, or was cancelled."}
_NOT_FOUND: _Schema = {"description": "There is no such upload of yours."}
_TOO_LARGE: _Schema = {"description": "Larger than MEDIAVAULT_UPLOAD_LIMIT."}
_TOO_MANY: _Schema = {"description": "You have too many unfinished uploads; try again after Retry-After seconds."}
_CREATION_REFUSED: _Schema = {
    "description": "Refused, and nothing is kept: a header field is missing or wrong, the type is not supported, the quota is used up, …"
}

_VERSION = _field("Tus-Resumable", "The version of tus.", required=True, schema={"type": "string", "enum": ["1.0.0"]})
_CHECKSUM = _field("Upload-Checksum", "`sha1`, a space, and the SHA-1 of this request's body in base64.")
_TUS_BODY: _Schema = {"content": {"application/offset+octet-stream": _FILE}}

TUS_REQUEST: _Schema = {"parameters": [_VERSION]}
TUS_CREATION: _Schema = {
    "parameters": [
        _VERSION,
        _field(
            "Upload-Length", "The file's length in bytes. Without it `Upload-Defer-Length` is needed.", schema=_NUMBER
        ),
        _field(
            "Upload-Defer-Length", "`1`: a later request tells the length.", schema={"type": "string", "enum": ["1"]}
        ),
        _field(
            "Upload-Metadata",
            "Pairs, separated by commas, of a key, a space and a value in base64: `filename`, `filetype` and the fields of `POST /assets`.",
        ),
        _CHECKSUM,
        _field("x-immich-checksum", "SHA-1 of the file, as for `POST /assets`."),
    ],
    "requestBody": {"required": False, **_TUS_BODY},
}
TUS_APPEND: _Schema = {
    "parameters": [
        _VERSION,
        _field("Upload-Offset", "How many bytes have arrived, as HEAD tells.", required=True, schema=_NUMBER),
        _field("Upload-Length", "The file's length, where it was not told before.", schema=_NUMBER),
        _CHECKSUM,
    ],
    "requestBody": {"required": True, **_TUS_BODY},
}
TUS_CAPABILITIES: _Responses = {
    204: {
        "description": "What is served.",
        "headers": _headers(
            Tus_Version="Versions.", Tus_Extension="Extensions.", Tus_Max_Size="The limit on the length in bytes."
        ),
    }
}
TUS_CREATED: _Responses = {
    201: {
        "description": "Begun. Where it is complete already, the body is the asset.",
        "headers": _headers(
            Location="Where to continue.", Upload_Offset="How many bytes have arrived.", Upload_Expires="When it ends."
        ),
        "content": _ASSET,
    },
    400: _CREATION_REFUSED,
    412: {"description": "Another version of tus; `Tus-Version` names ours."},
    413: _TOO_LARGE,
    415: {"description": "The body is no application/offset+octet-stream."},
    429: _TOO_MANY,
}
TUS_STATUS: _Responses = {
    200: {
        "description": "The state.",
        "headers": _headers(
            Upload_Offset="How many bytes have arrived.",
            Upload_Length="The length; without it `Upload-Defer-Length: 1`.",
            Upload_Metadata="As the upload was created with.",
            Upload_Expires="When it ends.",
            Mediavault_Asset_Id="Of a complete upload: the asset.",
        ),
    },
    404: _NOT_FOUND,
    410: _GONE,
    423: {"description": "Not known at the moment; try again."},
}
TUS_APPENDED: _Responses = {
    200: {
        "description": "Complete: the asset. A client whose `Accept` has no JSON gets 204 instead.",
        "headers": _headers(Upload_Offset="The length.", Mediavault_Asset_Id="The asset."),
        "content": _ASSET,
    },
    204: {"description": "Appended.", "headers": _headers(Upload_Offset="How many bytes have arrived.")},
    404: _NOT_FOUND,
    409: {"description": "Another `Upload-Offset` than ours."},
    410: _GONE,
    415: {"description": "The body is no application/offset+octet-stream."},
    423: {"description": "Another request has the upload, or has taken it over."},
    460: {"description": "The body does not match `Upload-Checksum`; nothing was appended."},
}
TUS_CANCELLED: _Responses = {204: {"description": "Ended."}, 404: _NOT_FOUND, 410: _GONE}

_INTEROP = _field(
    "Upload-Draft-Interop-Version",
    "3, 5, 6, 7 or 8. Without it the request is served as 8, without interim responses (104).",
    schema={"type": "string"},
)
_CONTENT_DIGEST = _field("Content-Digest", "The digest of this request's body: `sha-256`, `sha-512` or `sha`.")
_STATUS_HEADERS = _headers(
    Upload_Offset="How many bytes have arrived.",
    Upload_Complete="`?1` if the asset exists (version 3: `Upload-Incomplete: ?0`).",
    Upload_Length="The length, where it is known.",
    Upload_Limit="`max-size` in bytes, and `max-age` (version 6: `expires`) in seconds.",
)

IETF_REQUEST: _Schema = {"parameters": [_INTEROP]}
IETF_CREATION: _Schema = {
    "parameters": [
        _INTEROP,
        _field(
            "Upload-Complete",
            "`?1`: the file ends with this body. Version 3: `Upload-Incomplete`, with the opposite meaning.",
            required=True,
            schema=_BOOLEAN,
        ),
        _field("Upload-Length", "The file's length in bytes, where the body is not all of it.", schema=_SHORT_NUMBER),
        _field(
            "x-immich-asset-data",
            "JSON in base64: `filename`, `fileCreatedAt`, `fileModifiedAt`, and other fields of `POST /assets`.",
            required=True,
        ),
        _field("Repr-Digest", "The SHA-1 of the whole file: `sha=:` base64 `:`.", required=True),
        _CONTENT_DIGEST,
    ],
    "requestBody": {"required": False, "content": {"*/*": _FILE}},
}
IETF_APPEND: _Schema = {
    "parameters": [
        _INTEROP,
        _field("Upload-Offset", "How many bytes have arrived, as HEAD tells.", required=True, schema=_SHORT_NUMBER),
        _field("Upload-Complete", "`?1`: these are the last bytes.", required=True, schema=_BOOLEAN),
        _field("Upload-Length", "The file's length, where it was not told before.", schema=_SHORT_NUMBER),
        _CONTENT_DIGEST,
    ],
    "requestBody": {"required": True, "content": {"application/partial-upload": _FILE}},
}
IETF_CAPABILITIES: _Responses = {
    204: {"description": "The limits.", "headers": _headers(Upload_Limit="`max-size` in bytes.")}
}
IETF_CREATED: _Responses = {
    200: {"description": "You have this content already: its asset.", "headers": _STATUS_HEADERS, "content": _ASSET},
    201: {
        "description": "Begun; where the file is complete, the body is the asset. An interim 104 with `Location` comes before.",
        "headers": {**_STATUS_HEADERS, **_headers(Location="Where to continue.")},
        "content": _ASSET,
    },
    400: _CREATION_REFUSED,
    413: _TOO_LARGE,
    429: _TOO_MANY,
}
IETF_STATUS: _Responses = {
    204: {"description": "The state.", "headers": _STATUS_HEADERS},
    404: _NOT_FOUND,
    410: _GONE,
}
IETF_APPENDED: _Responses = {
    200: {"description": "Complete: an asset that you had already.", "headers": _STATUS_HEADERS, "content": _ASSET},
    201: {"description": "Complete: the new asset.", "headers": _STATUS_HEADERS, "content": _ASSET},
    204: {"description": "Appended.", "headers": _STATUS_HEADERS},
    400: {"description": "A digest or a length does not match, and nothing was appended, or a field is wrong."},
    404: _NOT_FOUND,
    409: {"description": "Another `Upload-Offset` than ours, or another request has taken the upload over."},
    410: _GONE,
    415: {"description": "From version 6 on the body must be an application/partial-upload."},
}
IETF_CANCELLED: _Responses = {204: {"description": "Ended."}, 404: _NOT_FOUND, 410: _GONE}
