"""One scan of an external library: directory walk, comparison with the catalogue, rename detection, missing files."""
