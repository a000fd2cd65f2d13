"""Moving a library between disk and S3, comparing it with its catalogue, and keeping copies of the catalogue."""
