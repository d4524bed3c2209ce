"""Advantages, the objective and the DeepSpeed group that applies it."""
