"""The JSON that requests and answers carry, in Immich's shapes (v3 names): values only, no behaviour beyond building one from a row."""
