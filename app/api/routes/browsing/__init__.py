"""Routes that find assets: search, timeline, folders and people."""
