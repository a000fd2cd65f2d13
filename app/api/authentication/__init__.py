"""Authentication and authorization: API keys, sessions, passwords and permissions."""
