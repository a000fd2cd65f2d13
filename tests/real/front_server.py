"""The front servers of `docs/proxies.md` that send files in place of a service: real ones, with the files that stand there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.real.nginx import Nginx
from tests.real.secrets import record_log, record_secret
from tests.real.service import Service

DOCUMENT = Path(__file__).parents[2] / "docs/proxies.md"
SECRET = record_secret("0123456789abcdef0123456789abcdef")
SETTINGS = {
    "MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1",
    "MEDIAVAULT_OFFLOAD": "x-accel",
    "MEDIAVAULT_OFFLOAD_SECRET": SECRET,
    "MEDIAVAULT_OFFLOAD_MINIMUM": "1",
}
"""Those of a service behind one of them. Every file is large enough to be sent by it."""


def read_blocks(language: str) -> list[str]:
    """The configuration files of the document in this language, in their order."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def create_offloading_nginx(
    folder: Path,
    service: Service,
    *,
    falls_back: bool = False,
    media: Path | None = None,
    store_port: int | None = None,
) -> Nginx:
    """nginx with the second file of the document, with access to the files and the store of `service`, or to another folder or port in place
    of these. Without `falls_back` it does not ask the service for what it can not send: an error of its own shows that it could not."""
    record_log(folder / "nginx.log")
    bucket = service.stack.bucket
    store = "127.0.0.1:9" if bucket is None else bucket.server.endpoint.removeprefix("http://")
    address = store if store_port is None else f"127.0.0.1:{store_port}"
    servers = adapt_offloading_servers(media or service.stack.media, store, address)
    if not falls_back:
        servers = re.sub("^ *error_page .*$", "", servers, flags=re.MULTILINE)
    return Nginx(folder, service.port, servers=servers)


def adapt_offloading_servers(media: Path, store: str, store_address: str) -> str:
    """The second file for nginx, with this media folder, and the store that clients know as `store` at that address, without TLS."""
    _, servers = read_blocks("nginx")
    for text, actual in (
        ("include /etc/nginx/mediavault-secret.conf;", f'proxy_set_header X-Offload-Secret "{SECRET}";'),
        ("/srv/photos", str(media)),
        ("server s3.example.org:443;", f"server {store_address};"),
        ("https://mediavault_store", "http://mediavault_store"),
        ("Host s3.example.org;", f"Host {store};"),
    ):
        assert text in servers, text
        servers = servers.replace(text, actual)
    return servers
