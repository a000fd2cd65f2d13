"""Metrics: counters, histograms and gauges of the processes of one host, in memory that these share. Knows no HTTP."""
