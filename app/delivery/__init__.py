"""Bytes to a client: ranges, conditions, names and the one response that every GET of bytes gives."""
