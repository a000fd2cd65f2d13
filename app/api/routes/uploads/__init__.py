"""Routes of resumable uploads: tus below `/uploads`, the IETF draft below `/upload`."""
