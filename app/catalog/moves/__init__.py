"""Moves of managed files between disk and S3: the ledger of their progress, and the transactions that switch paths."""
