"""Pictures and videos: what is made from an original, in child processes that a hostile file cannot leave."""
