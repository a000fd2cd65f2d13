"""Routes of assets: upload, changes, trash, and download as archives."""
