"""Downloads of several assets: links to zip archives, and member names of downloads that are split into several
archives."""
