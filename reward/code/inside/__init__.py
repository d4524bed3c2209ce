"""Scripts that run in the sandbox, with the standard library alone. The verifier imports some of them too."""
