"""The S3 protocol: requests and responses as typed values, signing, capabilities of stores, hints for errors."""
