"""Takes over rows of another installation's catalogue."""
