"""Asking a model and scoring its answers: `medgrit predict` and `medgrit evaluate`."""
