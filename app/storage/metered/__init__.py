"""Wrappers that measure the calls of any backend. They are used where metrics are exported, and change nothing else."""
