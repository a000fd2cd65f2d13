"""`Takeover`: an installation of Immich, a service of ours, and the commands between them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from tests.immich.installation import Installation
from tests.migration.commands import mediavault
from tests.real.service import Service


@dataclass(frozen=True, slots=True)
class Takeover:
    installation: Installation
    service: Service

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`mediavault immich <command>`, with the address of the database and the folders."""
        roots = [f"--media-root={root}" for root in self.installation.media_roots]
        address = ["--database-url", self.installation.url]
        return mediavault(self.service, "immich", command, *address, *roots, *arguments)

    def report(self, command: str, *arguments: str) -> dict[str, Any]:
        """As `run`, of a command that succeeds."""
        ended = self.run(command, "--json", *arguments)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def client(self, name: str) -> httpx.Client:
        """A client with the API key that this user has at Immich."""
        return self._client(self.installation.keys[name])

    def own_client(self, name: str) -> httpx.Client:
        """A client of this user with a new API key of ours, which sees locked assets."""
        return self._client(self.service.people.add_key(self.installation.users[name]))

    def is_locked(self, asset_id: UUID) -> bool:
        return self.installation.execute("SELECT visibility = 'locked' FROM asset WHERE id = %s", [asset_id]) == [
            (True,)
        ]

    def owner_of(self, asset_id: UUID) -> str:
        """The name of the owner."""
        ((owner_id,),) = self.installation.execute('SELECT "ownerId" FROM asset WHERE id = %s', [asset_id])
        return next(name for name, user_id in self.installation.users.items() if user_id == owner_id)

    def _client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.service.url, headers={"x-api-key": key}, timeout=30, trust_env=False)
