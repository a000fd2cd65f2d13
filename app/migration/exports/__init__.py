"""`mediavault export`: originals brought back into a folder."""
