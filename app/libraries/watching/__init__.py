"""Watching of external libraries between scans: inotify events, or polling where events are not available."""
