"""Checks of `mediavault doctor`: one module for each part of the set-up, each adding findings to one report.

Nothing is changed. Writes are tested with scratch objects that are removed again, and in a database transaction that is rolled back.
"""
