"""Import paths of external libraries: which folders may be one, what is mounted there, and whether they can be read."""
