"""Liveness, readiness, and the markers that tell mounted media folders from empty mount points."""
