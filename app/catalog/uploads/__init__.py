"""Table `upload`: sessions of resumable uploads."""
