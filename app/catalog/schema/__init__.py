"""The catalogue's tables, and the frozen records that its repositories return. No queries."""
