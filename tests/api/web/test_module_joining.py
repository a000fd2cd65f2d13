"""The page's modules are sent as one script for each program: the same statements in an order in which every import is there."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from app.api.web.module_joining import ModuleJoiner
from app.api.web.static_files import StaticFiles, read_files
from tests.real.npm import node

WEB = Path(__file__).parents[3] / "app/web"
WORKERS = ("scripts/library/timeline/bucket-worker.js", "scripts/uploads/hashing/hash-worker.js")
ONLY_IN_WORKERS = 3
COMPARE = r"""
  const acorn = require("internal/deps/acorn/acorn/dist/acorn");
  const OMITTED = new Set(["start", "end", "raw"]);
  const parse = (text) => acorn.parse(text, { ecmaVersion: "latest", sourceType: "module" }).body;
  const write = (body) => {
    const names = new Map();
    return JSON.stringify(body, (key, value) => {
      if (value?.type === "PrivateIdentifier") {
        names.set(value.name, names.get(value.name) ?? names.size);
        return names.get(value.name);
      }
      const isWorker = typeof value === "string" && value.endsWith("-worker.js");
      return OMITTED.has(key) ? undefined : key === "kind" && value === "const" ? "let" : isWorker ? value.split("/").pop() : value instanceof RegExp ? String(value) : value;
    });
  };
  const { sources, sent } = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const expected = new Set(Object.values(sources).map((text) => {
    const declarations = parse(text).filter(({ type }) => type !== "ImportDeclaration");
    return write(declarations.map((each) => each.type === "ExportNamedDeclaration" ? each.declaration : each));
  }));
  const faults = parse(sent).filter((statement) => {
    const made = statement.declarations?.[0];
    const call = made ? made.init : statement.expression;
    const body = call.callee.body.body;
    if (!made) {
      return !expected.has(write(body));
    }
    const returned = body.pop().argument.properties.map(({ key }) => key.name);
    return !expected.has(write(body)) || String(made.id.properties.map(({ key }) => key.name)) !== String(returned);
  });
  console.log(JSON.stringify({ modules: parse(sent).length, faults: faults.map((each) => sent.slice(each.start, each.start + 80)) }));
"""
"""Counts the modules in a sent script, and tells those whose syntax tree is that of no source, imports and exports aside. The parser is Node's own."""


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {str(path.relative_to(WEB)): path.read_text(encoding="utf-8") for path in WEB.rglob("*.js")}


@pytest.mark.parametrize("entry", ["scripts/main.js", *WORKERS])
def test_a_script_consists_of_the_modules_that_it_imports(sources: dict[str, str], entry: str) -> None:
    compared = subprocess.run(
        [node(), "--expose-internals", "--eval", COMPARE],
        input=json.dumps({"sources": sources, "sent": ModuleJoiner(sources).join(entry)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    modules = 2 if entry in WORKERS else len(sources) - ONLY_IN_WORKERS
    assert json.loads(compared.stdout) == {"modules": modules, "faults": []}


def test_only_the_scripts_that_a_browser_starts_are_sent() -> None:
    sent = StaticFiles.create(read_files(files("app.web"))).files

    assert sorted(name for name in sent if name.endswith(".js")) == sorted([*WORKERS, "scripts/main.js"])


def test_modules_are_evaluated_before_what_imports_them() -> None:
    sources = {
        "a/main.js": 'import "./b.js";\nimport {\n  one,\n  two,\n} from "../c/d.js";\nimport { three } from "./b.js";\n\none(two, three);\n',
        "a/b.js": 'import { two } from "../c/d.js";\n\nexport const three = two + 1;\n',
        "c/d.js": 'const state = { a: 1 };\nexport function one() {\n  return state;\n}\nexport const two = 2;\nnew Worker(new URL("./e.js", import.meta.url));\n',
        "c/e.js": "self.close();\n",
        "unused.js": "unused();\n",
    }

    assert ModuleJoiner(sources).join("a/main.js") == (
        "let{one,two}=(()=>{let state={a:1};function one(){return state}let two=2;"
        'new Worker(new URL("./../c/e.js",import.meta.url));return{one,two}})();'
        "let{three}=(()=>{let three=two+1;return{three}})();"
        "(()=>{one(two,three)})();"
    )
    assert ModuleJoiner(sources).list_workers("a/main.js") == ["c/e.js"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ('import { c } from "./c.js";\n', "a.js imports b.js imports c.js: not found"),
        ('import "./a.js";\n', "a.js imports b.js imports a.js: a circle"),
        ("export const a = 2;\n", "a.js: exported twice: a"),
        ("export default 1;\n", "b.js: export default 1;"),
        ('import * as d from "./d.js";\n', r"b.js: import \* as d"),
        ('import { x as y } from "./d.js";\n', "b.js: import { x as y }"),
    ],
)
def test_what_cannot_be_joined_stops_the_start(other: str, reason: str) -> None:
    sources = {"a.js": 'import "./b.js";\nexport const a = 1;\n', "b.js": other, "d.js": ""}
    with pytest.raises(ValueError, match=reason):
        ModuleJoiner(sources).join("a.js")
