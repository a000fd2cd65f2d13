"""The fast path: ASGI handlers that send files and archives without FastAPI's routing."""
