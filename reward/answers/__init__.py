"""Whether two written mathematical answers are the same answer. No process, no file, no clock: pure functions of text.

`equivalence` decides; the other modules each read one kind of answer, the cheap ones first, math-verify last.
"""
