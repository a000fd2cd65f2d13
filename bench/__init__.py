"""Measurements side by side with other servers, in one run on one machine (`make bench`). Ratios count, not figures."""
