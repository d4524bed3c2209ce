"""Entry points and the glue between the rooms."""
