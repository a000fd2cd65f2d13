"""An HTTP/1.1 client for GETs of signed links: only what reads from a store need, at a third of aiohttp's time for each request."""
