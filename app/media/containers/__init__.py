"""Container formats: detection by signature, top-level boxes, truncation. Decodes no picture."""
