"""Fine-tuning a model on conversations: `medgrit train`."""
