"""The process that starts a program, restricts it, watches it and ends it.

It runs under the bare interpreter without any other module of this project, since its start is most of what a program
costs: only small modules of the standard library are imported, no `enum`, no `dataclasses`.
"""
