"""Serves the page: the static files of `app/web` and the addresses that open it."""
