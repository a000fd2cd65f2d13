"""External folders that are indexed where they lie: scanned, watched, guarded against disks that are away, and never written to."""
