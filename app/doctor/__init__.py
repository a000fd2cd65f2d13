"""What `mediavault doctor` looks at: one module per kind of check, each adding findings to one report.

Nothing of a library is changed: a store is tried out with scratch keys of its own, which are removed again, and a database in a
transaction that is rolled back.
"""
