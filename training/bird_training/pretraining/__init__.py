"""bird-mini from nothing: `medgrit pretrain`."""
