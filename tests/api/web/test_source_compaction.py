"""What is sent of the page's scripts: the same programs with fewer characters."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.api.web.source_compaction import compact_script, compact_style
from tests.real.npm import node

WEB = Path(__file__).parents[3] / "app/web"
COMPARE = r"""
  const acorn = require("internal/deps/acorn/acorn/dist/acorn");
  const OMITTED = new Set(["start", "end", "raw"]);
  const parse = (text) => {
    const names = new Map();
    return JSON.stringify(acorn.parse(text, { ecmaVersion: "latest", sourceType: "module" }), (key, value) => {
      if (value?.type === "PrivateIdentifier") {
        names.set(value.name, names.get(value.name) ?? names.size);
        return names.get(value.name);
      }
      return OMITTED.has(key) ? undefined : key === "kind" && value === "const" ? "let" : value instanceof RegExp ? String(value) : value;
    });
  };
  const pairs = JSON.parse(require("fs").readFileSync(0, "utf8"));
  console.log(JSON.stringify(pairs.filter(([, source, sent]) => parse(source) !== parse(sent)).map(([name]) => name)));
"""
"""Names the programs whose syntax trees differ, private names aside, and `const` taken for `let`. The parser is Node's own."""


def test_all_scripts_are_sent_with_the_syntax_trees_of_their_sources() -> None:
    sources = {str(path.relative_to(WEB)): path.read_text(encoding="utf-8") for path in WEB.rglob("*.js")}
    pairs = [(name, source, compact_script(source)) for name, source in sources.items()]

    compared = subprocess.run(
        [node(), "--expose-internals", "--eval", COMPARE],
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert len(sources) > 50
    assert json.loads(compared.stdout) == []
    assert all("/**" not in sent and "\n " not in sent for _, _, sent in pairs)


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("/** Adds. */\nexport const a = 1; // one\n\nlet b;\n", "export let a=1;let b;"),
        ("function f(a, b) {\n  return a + b;\n}\nf(1, -2);\n", "function f(a,b){return a+b}f(1,-2);"),
        ("for (const [a] of b) {\n  const { c } = a.const;\n}", "for(let[a]of b){let{c}=a.const}"),
        ("let a = b - -c + +d / e;", "let a=b- -c+ +d/e;"),
        ("a()\nb()\n", "a()\nb()"),
        ('const u = "http://x"; // y', 'let u="http://x";'),
        ("const r = /[/\"'] +\\/* b/g; s();", "let r=/[/\"'] +\\/* b/g;s();"),
        ("const t = `// ${this.#time}  #time`; ", "let t=`// ${this.#a}  #time`;"),
        (
            "class A {\n  #time = 1;\n  #at() {\n    return #time in this;\n  }\n}",
            "class A{#a=1;#b(){return #a in this}}",
        ),
        ("f((a) => a, async (b) => b);\nreturn (c) => c;", "f(a=>a,async(b)=>b);return(c)=>c;"),
        ("const x = [\n  1,\n  { a: 2, },\n];", "let x=[1,{a:2}];"),
        ("const u = p\n  .then(() => 1)\n  ?.a;", "let u=p.then(()=>1)?.a;"),
    ],
)
def test_layout_comments_and_long_private_names_are_not_sent(source: str, sent: str) -> None:
    assert compact_script(source) == sent


def test_styles_lose_comments_and_layout_only() -> None:
    source = "/* a */\n@media (max-width: 760px) {\n  .a > .b:not(:hover),\n  .c::after {\n    margin: calc(1px + 2px) 0;\n  }\n}\n"

    sent = "@media (max-width:760px){.a > .b:not(:hover),.c::after{margin:calc(1px + 2px) 0}}"
    assert compact_style(source) == sent
