"""Runs the page's JavaScript modules in Node, where they need no page."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.real.npm import node

SCRIPTS = Path(__file__).resolve().parents[2] / "app/web/scripts"
RUN_SECONDS = 120


def run_modules(program: str, value: Any = None) -> Any:
    """Runs `program`, the body of an asynchronous function with the parameters `load` (imports a module by its path below `scripts`) and
    `value`; returns what it returns. Both values are JSON."""
    script = f"""
      const load = (path) => import({json.dumps(SCRIPTS.as_uri())} + "/" + path);
      let text = "";
      for await (const piece of process.stdin) text += piece;
      const result = await (async (load, value) => {{ {program} }})(load, JSON.parse(text));
      console.log(JSON.stringify(result ?? null));
    """
    done = subprocess.run(
        [node(), "--no-warnings", "--input-type=module", "--eval", script],
        input=json.dumps(value),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
