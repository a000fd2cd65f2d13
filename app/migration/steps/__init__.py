"""The commands of a move, one module each: plan, run, switch, cleanup, rollback, status."""
