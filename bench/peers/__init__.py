"""The servers to compare with, each as its users would write it."""
