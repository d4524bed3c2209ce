"""Judging programs: what a response's program is, what its tests are, and how the two meet in the sandbox."""
