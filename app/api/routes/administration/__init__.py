"""Routes of the server itself: information, health, libraries and queues."""
