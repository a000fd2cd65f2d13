"""ASGI handlers of the fast path: files and archive links, answered without FastAPI."""
