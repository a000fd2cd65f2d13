"""Moves of the managed files between disk and S3, comparison of catalogue and storage, backups of the catalogue."""
