"""Decoding and rendering of photos. Everything except `sizes` and `thumbhash` runs in sandboxed workers only."""
