"""Assets: photos and videos with their original files, derivatives and live-photo videos, and their removal."""
