"""Queries that find assets, and what clients stored with them: random choices, counts, the timeline and folders. They change nothing."""
