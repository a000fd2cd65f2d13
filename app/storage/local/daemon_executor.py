"""An executor with daemon threads: a call that hangs on a dead disk does not block process exit.

`ThreadPoolExecutor` cannot be used for that: it joins its threads when the interpreter exits, even after `shutdown(wait=False)`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_QueuedCall = tuple[Future[Any], Callable[[], Any]]


class DaemonExecutor(Executor):
    """Up to `max_threads` threads, started on demand."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._name = name
        self._max_threads = max_threads
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_QueuedCall | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Raises `RuntimeError` after `shutdown`."""
        call: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("no calls are taken any more")
            self._queue.put((call, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._max_threads:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._run_worker, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel_queued()
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel_queued(self) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return
            if work is not None:
                work[0].cancel()

    def _run_worker(self) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                self._idle.release()
                work = self._queue.get()
            if work is None:
                self._queue.put(None)  # for the next thread
                return
            _run_call(*work)
            del work  # its arguments may be large


def _run_call(call: Future[Any], function: Callable[[], Any]) -> None:
    if not call.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        call.set_exception(error)
    else:
        call.set_result(result)
