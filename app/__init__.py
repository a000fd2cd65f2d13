"""mediavault: takes in photos and videos, keeps them on disk or in S3, and serves them."""

__version__ = "0.1.0"
