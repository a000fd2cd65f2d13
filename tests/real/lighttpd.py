"""A real lighttpd as reverse proxy before a service."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.real.reverse_proxy import ReverseProxy

CONFIGURATION = """
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{folder}/lighttpd.log"
server.pid-file = "{folder}/lighttpd.pid"
server.upload-dirs = ( "{folder}" )
server.document-root = "{folder}/nothing"
{text}
"""


class Lighttpd(ReverseProxy):
    """`text`: the part of the configuration that concerns the service."""

    name = "lighttpd"

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(folder)
        self._text = CONFIGURATION.format(folder=folder, port=self.port, text=text)

    def configure(self) -> tuple[list[str], None]:
        program = shutil.which("lighttpd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("no lighttpd here: install the package lighttpd")
        (self._folder / "nothing").mkdir()
        (self._folder / "lighttpd.conf").write_text(self._text, encoding="utf-8")
        return [program, "-D", "-f", str(self._folder / "lighttpd.conf")], None
