"""HTTP responses that send bytes: range requests, conditional requests, `Content-Disposition`, multipart/byteranges."""
