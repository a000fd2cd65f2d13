"""Bytes under keys: the backends for local disk and S3, and the service that routes the catalogue's paths to them. Knows no HTTP server."""
