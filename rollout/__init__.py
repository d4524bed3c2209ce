"""Prompts, vLLM engines and the pool of actors that turns one into the other's responses."""
