"""The database contains only hashes of secrets; it is read without the code under test."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from psycopg import sql

from tests.api.photos import photo
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import uploaded


def test_the_database_holds_only_hashes_of_secrets(service: Service) -> None:
    """A password set on the command line, a session, keys from the command line and the API, and a link to an archive."""
    password = record_secret(secrets.token_hex(12))
    email = f"{secrets.token_hex(6)}@example.org"
    added = service.run("user", "add", email, "--password-stdin", stdin=f"{password}\n")
    assert added.returncode == 0, added.stderr
    made = service.run("key", "add", email)
    assert made.returncode == 0, made.stderr
    key = record_secret(made.stdout.split()[-1])
    with service.client() as client:
        login = client.post("/api/auth/login", json={"email": email, "password": password})
        assert login.status_code == 201, login.text
        token = record_secret(login.json()["accessToken"])
        client.cookies.clear()
        client.headers["x-api-key"] = key
        another = record_secret(client.post("/api/api-keys", json={"permissions": ["all"]}).json()["secret"])
        asset = uploaded(client, photo())
        link = client.post("/api/download/links", json={"assetIds": [asset]}).json()["url"]
        opens = record_secret(link.split("/archives/")[1].split("/")[0])
        assert client.get(f"/api/download/archives/{opens}/photos.zip").status_code == 200

    content = everything_stored(service)

    for secret in (password, token, key, another, opens):
        assert [form for form in forms(secret) if form in content] == [], "it can be read in the database"
    for secret in (token, key, another, opens):
        assert holds_digest(content, secret), "the hash is what is searched for"

    passwords = stored_passwords(service)
    assert {stored[:10] for stored in passwords.values()} == {"$argon2id$"}
    assert extract_parameters(passwords[email]).type is Type.ID
    assert PasswordHasher().verify(passwords[email], password)


def forms(secret: str) -> set[bytes]:
    """The secret as text, and as the bytes that it encodes, in upper and lower case."""
    found = {
        secret.encode(),
        secret.upper().encode(),
        secret.encode().hex().encode(),
        base64.b64encode(secret.encode()),
    }
    for decode in (bytes.fromhex, lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))):
        try:
            found.add(decode(secret))
        except ValueError:
            continue
    return {form for form in found if len(form) >= 8}


def holds_digest(content: bytes, secret: str) -> bool:
    digest = hashlib.sha256(secret.encode())
    return digest.digest() in content or digest.hexdigest().encode() in content


def everything_stored(service: Service) -> bytes:
    """For SQLite the bytes of its files, including free pages; for PostgreSQL every row of every table as text, with bytes in hex."""
    url = service.stack.db_url
    if url.startswith("sqlite:///"):
        database = Path(url.removeprefix("sqlite:///"))
        return b"".join(path.read_bytes() for path in sorted(database.parent.glob(f"{database.name}*")))
    ours = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    rows: list[str] = []
    with psycopg.connect(url) as connection:
        for schema, table in connection.execute(ours).fetchall():
            statement = sql.SQL("SELECT t::text FROM {}.{} AS t").format(sql.Identifier(schema), sql.Identifier(table))
            rows += [str(row[0]) for row in connection.execute(statement)]
    return "\n".join(rows).encode()


def stored_passwords(service: Service) -> dict[str, str]:
    """Stored password hashes by the user's email."""
    url, statement = service.stack.db_url, 'SELECT email, password_hash FROM "user" WHERE password_hash IS NOT NULL'
    if not url.startswith("sqlite:///"):
        with psycopg.connect(url) as connection:
            return dict(connection.execute(statement).fetchall())
    with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as connection:
        return dict(connection.execute(statement).fetchall())
