"""Backups of the catalogue: file format, creation and listing, schedule, restore."""
