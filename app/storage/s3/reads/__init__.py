"""The bytes of reads: over which connections they come, and what is fetched ahead of the reader."""
