"""Jobs: questions that wait for a device, are answered in turn, and tell how far they are.

Only `routes.py` and `streams.py` know HTTP; nothing here knows torch.
"""
