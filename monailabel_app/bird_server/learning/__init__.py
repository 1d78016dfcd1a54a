"""Learning from reviews: which case to look at next, and the versions that training leads to.

A room of the server that knows neither HTTP nor torch.
"""
