"""`mediavault verify`: the comparison of catalogue and storage, and the repair of its findings."""
