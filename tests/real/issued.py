"""Every secret that the tests hand out, so that the end of the session can search what was logged for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_secrets: set[str] = set()
_logs: set[Path] = set()


def issued(secret: str) -> str:
    """Note a key, token, password or S3 secret that must never show up in a log; returns it."""
    if len(secret) < 8:
        raise ValueError("too short to be told from ordinary text")
    _secrets.add(secret)
    return secret


def logged_to(path: Path) -> Path:
    """Note a file that a service under test logs to; returns it."""
    _logs.add(path)
    return path


def leaks() -> list[str]:
    """One line per secret and log file that holds it, without the secret."""
    return [
        f"{path}:{number}: holds a secret of {len(secret)} characters"
        for path in sorted(_logs)
        if path.exists()
        for secret, number in _found(path.read_bytes(), _secrets)
    ]


def _found(text: bytes, secrets: Iterable[str]) -> Iterable[tuple[str, int]]:
    for secret in secrets:
        for form in {secret, quote(secret, safe="")}:
            at = text.find(form.encode())
            if at >= 0:
                yield secret, text.count(b"\n", 0, at) + 1
