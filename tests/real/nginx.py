"""A real nginx as reverse proxy before a service, with persistent connections and the usual WebSocket configuration."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real.reverse_proxy import ReverseProxy

LISTEN = "listen 443 ssl;"
UPSTREAM = re.compile(r"server 127\.0\.0\.1:2283([^;]*);")
CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""
WEBSOCKETS = """
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream service { server 127.0.0.1:2283; keepalive 1; }
    server {
        listen 443 ssl;
        client_max_body_size 0;
        proxy_request_buffering off;
        location / {
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
"""


class Nginx(ReverseProxy):
    """One worker before the services on the ports `upstreams`.

    `servers`: what stands in the `http` block, for a service on port 2283 and clients of port 443 with TLS. It runs without TLS. The default
    has at most one idle connection to the service, and the usual lines for WebSockets."""

    name = "nginx"

    def __init__(self, folder: Path, *upstreams: int, servers: str = WEBSOCKETS) -> None:
        super().__init__(folder)
        self._servers = without_tls(servers, upstreams, self.port)

    def configure(self) -> tuple[list[str], None]:
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("no nginx here: install the package nginx-light")
        # Started by root, nginx runs its workers as nobody, who cannot read a private folder.
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        text = CONFIGURATION.format(user=user, folder=self._folder, servers=self._servers)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(text, encoding="utf-8")
        return [program, "-c", str(configuration), "-p", str(self._folder)], None


def without_tls(servers: str, upstreams: Sequence[int], port: int) -> str:
    """The configuration with this port for clients, and a server for each upstream port."""
    text = "\n".join(line for line in servers.splitlines() if not line.strip().startswith("ssl_"))
    assert LISTEN in text, servers
    assert len(UPSTREAM.findall(text)) == 1, servers
    text = UPSTREAM.sub(lambda found: " ".join(f"server 127.0.0.1:{each}{found[1]};" for each in upstreams), text)
    return text.replace(LISTEN, f"listen 127.0.0.1:{port};")
