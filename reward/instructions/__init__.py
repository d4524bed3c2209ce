"""Verifiable instructions: the 25 kinds of IFEval (Zhou et al. 2023, arXiv 2311.07911), how a response is held against
them strictly and loosely, and a generator of prompts that carry them.

Each kind decides what the authors' `instruction_following_eval` decides, its quirks included, so that figures compare
with published ones. The differences are few and on purpose, each where it arises: the seed of the language detector,
the end of a text in several exclamation marks (`text.sentences`), keywords that are searched as text and not as regular
expressions, and parameters that are refused where the reference draws others at random.

Every check takes time linear in the response, whatever it holds.
"""
