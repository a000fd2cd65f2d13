"""Media processing: derivatives and metadata of photos and videos, made in sandboxed child processes."""
