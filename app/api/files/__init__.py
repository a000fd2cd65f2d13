"""Which file answers a request for an asset, a person or a user, and the cache of those answers."""
