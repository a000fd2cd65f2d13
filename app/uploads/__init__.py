"""Uploads: reads the multipart body, hashes and stores its files, and creates the asset in an order that survives a crash.

Knows bodies and fields, but no HTTP responses: the API translates errors to statuses.
"""
