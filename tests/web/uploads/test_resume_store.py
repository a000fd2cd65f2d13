"""The page's memory of unfinished uploads."""

from __future__ import annotations

from tests.real.page_modules import run_modules

PREPARE = """
  const { ResumeStore } = await load("uploads/transfer/resume-store.js");
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  const id = (index) => "00000000-0000-4000-8000-" + String(index).padStart(12, "0");
  const later = Date.now() + 60_000;
  const store = new ResumeStore(() => storage);
"""


def test_an_upload_is_found_again_until_it_expires() -> None:
    program = """
      store.add({ fingerprint: "a", id: id(1), expiresAt: later });
      store.add({ fingerprint: "b", id: id(2), expiresAt: Date.now() - 1 });
      store.add({ fingerprint: "a", id: id(3), expiresAt: later });
      const again = new ResumeStore(() => storage);
      const found = [again.find("a"), again.find("b"), again.find("c")];
      again.remove("a");
      return [...found, store.find("a"), [...kept.values()]];
    """

    assert run_modules(PREPARE + program) == ["00000000-0000-4000-8000-000000000003", None, None, None, ["[]"]]


def test_its_size_is_bounded_and_the_oldest_are_forgotten() -> None:
    program = """
      for (let index = 0; index < 2100; index++) store.add({ fingerprint: "f" + index, id: id(index), expiresAt: later });
      return [store.find("f99"), store.find("f100"), JSON.parse([...kept.values()][0]).length];
    """

    assert run_modules(PREPARE + program) == [None, "00000000-0000-4000-8000-000000000100", 2000]


def test_a_storage_that_is_damaged_full_or_forbidden_stops_no_upload() -> None:
    program = """
      const results = [];
      for (const text of ["{", "{}", "[1, null, {}]", '[{"fingerprint": "a", "id": "../x", "expiresAt": 9e15}]']) {
        storage.getItem = () => text;
        results.push(store.find("a"));
      }
      storage.getItem = storage.setItem = () => { throw new Error("forbidden"); };
      store.add({ fingerprint: "a", id: id(1), expiresAt: later });
      store.remove("a");
      const forbidden = new ResumeStore(() => { throw new Error("forbidden"); });
      forbidden.add({ fingerprint: "a", id: id(1), expiresAt: later });
      return [...results, store.find("a"), forbidden.find("a")];
    """

    assert run_modules(PREPARE + program) == [None] * 6
