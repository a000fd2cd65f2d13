"""Metadata of originals: EXIF and XMP readers, and `MediaMetadata`, which the catalogue stores."""
