"""The server side of HTTP: sockets, framing of requests (RFC 9112), connection limits, and the outermost ASGI application."""
