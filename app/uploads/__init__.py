"""Bytes from a client: the multipart body, its hashes, and the order in which an upload becomes durable.

Speaks of bodies and fields but answers nothing itself: statuses are the API's.
"""
