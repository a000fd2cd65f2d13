"""How the page lists files that were chosen, and which sidecar goes with which photo."""

from __future__ import annotations

from typing import Any

from tests.real.page_modules import run_modules

LIST = """
  const { listChosenFiles } = await load("uploads/file-sources.js");
  const files = value.map((path) => ({ name: path.split("/").at(-1), webkitRelativePath: path.includes("/") ? path : "" }));
  return [...listChosenFiles(files)].map(({ files }) =>
    files.map(({ file, folder, sidecar }) => [folder, file.name, sidecar?.name ?? null]));
"""


def _list(*paths: str) -> list[list[list[Any]]]:
    return run_modules(LIST, list(paths))


def test_sidecars_go_with_their_photos() -> None:
    batches = _list("b.xmp", "a.JPG", "a.jpg.xmp", "b.cr2", "b.jpg", "c.jpg", "lone.XMP", "a.xmp", "other/c.xmp")

    assert batches == [
        [
            ["", "a.JPG", "a.jpg.xmp"],
            ["", "b.cr2", "b.xmp"],
            ["", "b.jpg", "b.xmp"],
            ["", "c.jpg", None],
            ["", "lone.XMP", None],
            ["", "a.xmp", None],
        ],
        [["other", "c.xmp", None]],
    ]


def test_files_of_the_system_are_left_out() -> None:
    assert _list("x/.DS_Store", "x/Thumbs.db", "x/._a.jpg", "x/desktop.ini", "x/a.jpg") == [[["x", "a.jpg", None]]]


def test_many_files_come_in_batches() -> None:
    batches = _list(*(f"{index}.jpg" for index in range(450)))

    assert [len(batch) for batch in batches] == [200, 200, 50]
