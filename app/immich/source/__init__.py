"""Reads Immich's database."""
