"""The catalogue: users, credentials, files and assets, in SQLite or PostgreSQL.

It knows neither HTTP nor storage, and no package above it sees SQLAlchemy or a driver. `open_catalog` opens it.
"""
