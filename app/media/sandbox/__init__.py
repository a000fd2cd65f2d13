"""Sandboxed processes: service → fork server → one supervisor per request → one worker per request."""
