"""`Player` plays Immich: inserts, renames, trashes, restores and deletes assets, rows and files, as Immich does."""

from __future__ import annotations

import hashlib
import random
from uuid import UUID, uuid5

from tests.immich.installation import CONTAINER, CONTAINER_PHOTOS, Installation


class Player:
    """The same seed plays the same."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self._own = installation
        self._dice = random.Random(seed)
        self._count = 0
        self.moves = [
            self.add, self.add, self.rename, self.exchange_paths, self.trash, self.restore, self.favourite, self.describe, self.hide,
            self.delete, self.upload_again, self.make_thumbnail, self.replace_edit, self.list_again,
        ]  # fmt: skip

    def play(self) -> None:
        """One random move."""
        self._dice.choice(self.moves)()

    def _id(self) -> UUID:
        self._count += 1
        return uuid5(UUID(int=self._dice.getrandbits(128)), str(self._count))

    def _choose(self, condition: str = "TRUE") -> tuple[UUID, str, bytes] | None:
        """An asset with its path and checksum, of those of a user that have a file of their own."""
        rows = self._own.execute(
            'SELECT id, "originalPath", checksum FROM asset WHERE id = ANY(%s) AND "libraryId" IS NULL AND '
            f"{condition} ORDER BY id",
            [self._own.plain],
        )
        return self._dice.choice(rows) if rows else None  # pyright: ignore[reportReturnType]

    def add(self, content: bytes | None = None, owner: str | None = None) -> UUID:
        """A new upload, without thumbnails yet."""
        asset_id, owner = self._id(), owner or self._dice.choice(("ada", "ben"))
        content = self._own.picture() if content is None else content
        path = f"{CONTAINER}/upload/{self._own.users[owner]}/{asset_id}.jpg"
        file = self._own.to_host(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self._own.execute(
            'INSERT INTO asset (id, "ownerId", type, "originalPath", "originalFileName", "fileCreatedAt", "fileModifiedAt", "localDateTime", '
            "checksum) VALUES (%s, %s, 'IMAGE', %s, %s, now(), now(), now(), %s)",
            [asset_id, self._own.users[owner], path, f"{asset_id}.jpg", hashlib.sha1(content).digest()],
        )
        self._own.execute(
            'INSERT INTO asset_exif ("assetId", "fileSizeInByte") VALUES (%s, %s)', [asset_id, len(content)]
        )
        self._own.contents[asset_id] = content
        self._own.plain.append(asset_id)
        return asset_id

    def rename(self) -> None:
        """As by a storage template."""
        if (chosen := self._choose()) is None:
            return
        asset_id, path, _ = chosen
        moved = f"{CONTAINER}/library/moved/{self._id()}/{path.rpartition('/')[2]}"
        target = self._own.to_host(moved)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._own.to_host(path).rename(target)
        self._own.execute('UPDATE asset SET "originalPath" = %s WHERE id = %s', [moved, asset_id])

    def exchange_paths(self) -> None:
        """Two assets get each other's path, as when a template changes."""
        one, other = self._choose(), self._choose()
        if one is None or other is None or one[0] == other[0]:
            return
        files = [self._own.to_host(each[1]) for each in (one, other)]
        between = files[0].with_name("between")
        files[0].rename(between)
        files[1].rename(files[0])
        between.rename(files[1])
        update = 'UPDATE asset SET "originalPath" = CASE id WHEN %s THEN %s ELSE %s END WHERE id IN (%s, %s)'
        self._own.execute(update, [one[0], other[1], one[1], one[0], other[0]])

    def trash(self) -> None:
        if (chosen := self._choose('"deletedAt" IS NULL')) is not None:
            self._own.execute("""UPDATE asset SET "deletedAt" = now(), status = 'trashed' WHERE id = %s""", [chosen[0]])

    def restore(self) -> None:
        if (chosen := self._choose('"deletedAt" IS NOT NULL')) is not None:
            self._own.execute("""UPDATE asset SET "deletedAt" = NULL, status = 'active' WHERE id = %s""", [chosen[0]])

    def favourite(self) -> None:
        if (chosen := self._choose()) is not None:
            self._own.execute('UPDATE asset SET "isFavorite" = NOT "isFavorite" WHERE id = %s', [chosen[0]])

    def describe(self) -> None:
        if (chosen := self._choose()) is not None:
            statement = 'UPDATE asset_exif SET description = %s WHERE "assetId" = %s'
            self._own.execute(statement, [f"described {self._count}", chosen[0]])

    def hide(self) -> None:
        if (chosen := self._choose("visibility <> 'hidden'")) is not None:
            visibility = self._dice.choice(("timeline", "archive", "locked"))
            statement = "UPDATE asset SET visibility = %s::asset_visibility_enum WHERE id = %s"
            self._own.execute(statement, [visibility, chosen[0]])

    def delete(self) -> bytes | None:
        """For good: the row first, as Immich does, then the files. Returns what the original held."""
        chosen = self._choose()
        if chosen is None or len(self._own.plain) < 20:
            return None
        asset_id, path, _ = chosen
        files = [
            path,
            *(row[0] for row in self._own.execute('SELECT path FROM asset_file WHERE "assetId" = %s', [asset_id])),
        ]
        self._own.execute("DELETE FROM asset WHERE id = %s", [asset_id])
        for each in files:
            self._own.to_host(each).unlink(missing_ok=True)
        self._own.plain.remove(asset_id)
        return self._own.contents.pop(asset_id)

    def upload_again(self) -> None:
        """A photo is deleted, and uploaded again: another id has its checksum."""
        if (content := self.delete()) is not None and content not in self._own.contents.values():
            self.add(content)

    def make_thumbnail(self) -> None:
        """A file beside an upload, made later."""
        without = "NOT EXISTS (SELECT FROM asset_file WHERE \"assetId\" = asset.id AND type = 'thumbnail')"
        if (chosen := self._choose(without)) is None:
            return
        path = f"{CONTAINER}/thumbs/{chosen[0]}_thumbnail.webp"
        self._own.to_host(path).write_bytes(self._own.picture("thumbnail"))
        insert = "INSERT INTO asset_file (\"assetId\", type, path) VALUES (%s, 'thumbnail', %s)"
        self._own.execute(insert, [chosen[0], path])

    def _choose_listed(self) -> tuple[UUID, str] | None:
        """An asset of the library, with its path."""
        rows = self._own.execute(
            'SELECT id, "originalPath" FROM asset WHERE id = ANY(%s) AND "libraryId" IS NOT NULL ORDER BY id',
            [self._own.plain],
        )
        return self._dice.choice(rows) if rows else None  # pyright: ignore[reportReturnType]

    def list_again(self) -> UUID | None:
        """A file of the library was removed from Immich, and is found again: it has another id. Returns the former one."""
        if (chosen := self._choose_listed()) is None:
            return None
        former, new = chosen[0], self._id()
        for table, column in (("asset", "id"), ("asset_exif", "assetId")):
            names = ", ".join(
                f'"{name}"'
                for (name,) in self._own.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s "
                    "AND column_name NOT IN (%s, 'updatedAt')",
                    [table, column],
                )
            )
            insert = f'INSERT INTO {table} ("{column}", {names}) SELECT %s, {names} FROM {table} WHERE "{column}" = %s'
            self._own.execute(insert, [new, former])
        self._own.execute("DELETE FROM asset WHERE id = %s", [former])
        self._own.plain[self._own.plain.index(former)] = new
        self._own.contents[new] = self._own.contents.pop(former)
        return former

    def replace_edit(self) -> None:
        """A file of the library is written by its owner, and read again by Immich."""
        if (chosen := self._choose_listed()) is None:
            return
        asset_id, path = chosen
        assert path.startswith(CONTAINER_PHOTOS)
        content = self._own.picture() + b" edited"
        self._own.to_host(path).write_bytes(content)
        self._own.contents[asset_id] = content
        update = 'UPDATE asset_exif SET "fileSizeInByte" = %s WHERE "assetId" = %s'
        self._own.execute(update, [len(content), asset_id])
        self._own.execute('UPDATE asset SET "fileModifiedAt" = now() WHERE id = %s', [asset_id])
