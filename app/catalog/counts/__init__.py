"""Numbers of assets and files, and bytes, that triggers keep: their queries and their maintenance."""
