"""The catalogue: users, credentials, files and assets, in SQLite or PostgreSQL.

It knows no HTTP and no storage, and nothing above it sees SQLAlchemy or a driver. `open_catalog` is the entrance.
"""
