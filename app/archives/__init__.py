"""Many files as one zip that knows its length, so that a download can pause, resume and split."""
