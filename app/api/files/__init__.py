"""Selects the stored file that answers a request for an asset, a person or a user, and caches the selection."""
