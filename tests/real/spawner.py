"""`python -m tests.real.spawner`: imports the service's modules once and forks a process for each order on standard input. The import takes a
second of CPU, which is most of a start.

An order is a line of JSON (`Order`); the answer is the process's id. After the end of the process, its exit status is in the file `status`.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.real.preloading import warm_up

STACKS_SIGNAL = signal.SIGUSR2
"""Makes a process write the stacks of its threads and asyncio tasks to its standard error."""


@dataclass(frozen=True, slots=True)
class Order:
    """A process to start, in a session of its own: module and arguments as after `python -m`, working folder, environment, files for output and
    errors (appended), file for the exit status. `imports` are modules that the spawner imports first, and keeps for later orders."""

    program: list[str]
    folder: str
    environment: dict[str, str]
    output: str
    errors: str
    status: str
    imports: list[str]


def serve() -> Order:
    """Serve orders. Returns in forked children only, with their order; exits at the end of standard input."""
    running: dict[int, tuple[int, Path]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while True:
            for ready, _ in selector.select():
                if ready.fd in running:
                    selector.unregister(ready.fd)
                    _report(ready.fd, *running.pop(ready.fd))
                    continue
                line = sys.stdin.readline()  # at most one: the client waits for each answer
                if not line:
                    sys.exit()
                order = Order(**json.loads(line))
                _import(order.imports)
                child = os.fork()
                if child == 0:
                    return order
                ended = os.pidfd_open(child)
                running[ended] = child, Path(order.status)
                selector.register(ended, selectors.EVENT_READ)
                print(child, flush=True)


def _import(modules: list[str]) -> None:
    if any(module not in sys.modules for module in modules):
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()


def _report(ended: int, child: int, status: Path) -> None:
    os.close(ended)
    _, code = os.waitpid(child, 0)
    partial = status.with_name(f"{status.name}.partial")
    partial.write_text(str(os.waitstatus_to_exitcode(code)))
    partial.rename(status)


def become(order: Order) -> None:
    """Run the program in this process, like a new interpreter."""
    os.setsid()
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    tempfile.tempdir = None
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number, (path, flags) in enumerate(
        (
            (os.devnull, os.O_RDONLY),
            (order.output, os.O_WRONLY | os.O_APPEND),
            (order.errors, os.O_WRONLY | os.O_APPEND),
        )
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(STACKS_SIGNAL, _write_tasks)
    faulthandler.register(STACKS_SIGNAL, chain=True)
    module, *arguments = order.program
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            raise
        _end(ended.code or 0)


def _write_tasks(*_: object) -> None:
    with suppress(RuntimeError):  # no event loop runs
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def _end(status: int) -> NoReturn:
    """End as an interpreter does, but leave out that it deletes all objects: it would copy each page of memory that it shares with its parent."""
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    warm_up()
    gc.freeze()
    become(serve())
