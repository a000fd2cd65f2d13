"""Moving a library between disk and S3: plan, copy, verify, switch, clean up or roll back. The ledger is `catalog.moves`."""
