"""Metrics of HTTP: what the public server records of its requests, and the server on another address that answers `/metrics`."""
