"""Accounts: users, their API keys and sessions, and the persons that their photos show."""
