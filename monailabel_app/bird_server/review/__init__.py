"""Review: what a model proposed about each volume, what people made of it, and files to hand on.

A room of the server that knows neither HTTP nor torch.
"""
