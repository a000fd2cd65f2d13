"""Access to SQLite and PostgreSQL: connections, transactions, translation of errors, process-wide locks, schema
upgrades."""
