"""The servers to compare with, each in its framework's usual way."""
