"""Resumable uploads: one core for all protocols. It knows no HTTP, and no storage backend by name."""
