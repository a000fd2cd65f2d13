"""What is to be done beside requests, and by whom."""
