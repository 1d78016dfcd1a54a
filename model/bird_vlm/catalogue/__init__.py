"""Models that users can get: which there are, what they need, which are here, how to fetch one.

Knows cards, folders and the Hugging Face hub; loads no network and imports no torch until it is
asked how much memory an accelerator has.
"""
