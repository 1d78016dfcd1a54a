"""Recipes of `medgrit train`, one YAML file each, and `fsdp.yaml` for `accelerate launch`."""
