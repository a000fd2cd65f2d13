"""External libraries: folders that are indexed in place, by scans and file system events, and never written to."""
