"""Exclusion patterns of external libraries: globs as Immich applies them, compiled to regular expressions. No I/O."""
