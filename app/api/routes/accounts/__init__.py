"""Routes of users and their credentials: login, sessions and API keys."""
