"""The protocols of resumable uploads: parses their header fields, and has a table of errors for each. No I/O, and no HTTP server."""
