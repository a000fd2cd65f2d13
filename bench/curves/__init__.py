"""Measures how costs grow: with the number of assets, of processes and of downloads at once. `python -m bench.curves` runs it."""
