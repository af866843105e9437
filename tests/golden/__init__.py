"""Model directories as a release wrote them, each with a batch and its answers: they must load forever.

`python -m tests.golden` writes the directories anew: when the format gets a new version (under new names, the old
ones stay) or docs/numerics.md changes.
"""
