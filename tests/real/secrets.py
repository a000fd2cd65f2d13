"""Registry of the secrets that tests create and of the services' logs; at the end of the session the logs are searched for the secrets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_secrets: set[str] = set()
_logs: set[Path] = set()


def record_secret(secret: str) -> str:
    """Note a key, token, password or S3 secret that must never show up in a log; returns it."""
    if len(secret) < 8:
        raise ValueError("too short to be told from ordinary text")
    _secrets.add(secret)
    return secret


def record_log(path: Path) -> Path:
    """Note a file that a service under test logs to; returns it."""
    _logs.add(path)
    return path


def recorded_leaks() -> list[str]:
    """One line for each secret that was issued and each log that holds it, without the secret."""
    return find_leaks(_secrets, sorted(_logs))


def find_leaks(secrets: Iterable[str], logs: Iterable[Path]) -> list[str]:
    """The same for these secrets and logs; a log that is missing holds none."""
    searched = list(secrets)
    found = []
    for path in logs:
        text = path.read_bytes() if path.exists() else b""
        for secret in searched:
            at = max(text.find(form.encode()) for form in (secret, quote(secret, safe="")))
            if at >= 0:
                line = text.count(b"\n", 0, at) + 1
                found.append(f"{path}:{line}: holds a secret of {len(secret)} characters")
    return found
