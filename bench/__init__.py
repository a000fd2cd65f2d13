"""Benchmarks against other servers, interleaved in one run on one machine (`make bench`). Only ratios are meaningful."""
