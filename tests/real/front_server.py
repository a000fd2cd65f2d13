"""The front servers of `docs/proxies.md` that send files in place of a service: real ones, with the files that stand there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.real.caddy import OPTIONS, Caddy
from tests.real.lighttpd import Lighttpd
from tests.real.nginx import Nginx
from tests.real.secrets import record_log, record_secret
from tests.real.service import Service

DOCUMENT = Path(__file__).parents[2] / "docs/proxies.md"
SECRET = record_secret("offloadsecretofthetests0123456789")
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
    servers = adapt_offloading_servers(media or service.stack.media, *_find_store(service, store_port))
    if not falls_back:
        servers = re.sub("^ *error_page .*$", "", servers, flags=re.MULTILINE)
    return Nginx(folder, service.port, servers=servers)


def adapt_offloading_servers(media: Path, store: str, store_address: str) -> str:
    """The second file for nginx, with this media folder, and the store that clients know as `store` at that address, without TLS."""
    _, servers = read_blocks("nginx")
    for text, actual in (
        ("include /etc/nginx/mediavault-secret.conf;", f'map "" $mediavault_secret {{ default "{SECRET}"; }}'),
        ("/srv/photos", str(media)),
        ("server s3.example.org:443;", f"server {store_address};"),
        ("https://mediavault_store", "http://mediavault_store"),
        ("Host s3.example.org;", f"Host {store};"),
    ):
        assert text in servers, text
        servers = servers.replace(text, actual)
    return servers


def create_offloading_caddy(
    folder: Path,
    service: Service,
    *,
    falls_back: bool = False,
    media: Path | None = None,
    store_port: int | None = None,
) -> Caddy:
    """As `create_offloading_nginx`, with Caddy."""
    _, site = read_blocks("caddyfile")
    record_log(folder / "caddy.log")
    (folder / "secret").write_text(f"{SECRET}\n", encoding="utf-8")
    store, address = _find_store(service, store_port)
    for text, actual in (
        ("127.0.0.1:2283", f"127.0.0.1:{service.port}"),
        ("/etc/caddy/mediavault-secret", str(folder / "secret")),
        ("/srv/photos", str(media or service.stack.media)),
        ("https://s3.example.org", f"http://{address}"),
        ("Host s3.example.org", f"Host {store}"),
        ("import mediavault_itself", "import mediavault_itself" if falls_back else "error 599"),
        ("log default {", f"{OPTIONS}\tlog default {{\n\t\toutput file {folder}/caddy.log"),
    ):
        assert text in site, text
        site = site.replace(text, actual)
    return Caddy(folder, site)


def _find_store(service: Service, port: int | None) -> tuple[str, str]:
    """The host of the links to the store, and the address at which a front server connects to it."""
    bucket = service.stack.bucket
    host = "127.0.0.1:9" if bucket is None else bucket.server.endpoint.removeprefix("http://")
    return host, host if port is None else f"127.0.0.1:{port}"


def create_offloading_lighttpd(folder: Path, service: Service) -> Lighttpd:
    """lighttpd with the file of the document, with access to the files of `service`, whose `MEDIAVAULT_OFFLOAD` is `x-sendfile`."""
    (text,) = read_blocks("lighttpd")
    record_log(folder / "lighttpd.log")
    (folder / "secret.conf").write_text(
        f'setenv.set-request-header = ( "X-Offload-Secret" => "{SECRET}" )\n', encoding="utf-8"
    )
    for pattern, actual in (
        ("/etc/lighttpd/mediavault-secret.conf", str(folder / "secret.conf")),
        ('"port" => 2283', f'"port" => {service.port}'),
        ("/srv/photos", str(service.stack.media)),
    ):
        assert pattern in text, pattern
        text = text.replace(pattern, actual)
    return Lighttpd(folder, text)
