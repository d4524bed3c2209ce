"""Verdicts on responses: verifiers, the child processes they run in, and the pool of Ray workers around them."""
