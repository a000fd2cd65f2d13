"""External libraries and the files that a scan found in them. Nothing here reads a disk."""
