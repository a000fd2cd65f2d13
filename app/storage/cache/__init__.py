"""A cache on the local disk for objects in S3: blocks of objects that were sent to clients, shared by all processes of a host.

No library does this. diskcache keeps pickles in SQLite, reads values whole and is no longer maintained; the caches of fsspec and of
cachelib read no ranges and share no work between processes; requests' caches keep whole responses. Of the needed parts (ranges, one fetch
for all processes, checksums, space shared with others on the disk) none of them has more than one.
"""
