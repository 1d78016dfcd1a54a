"""Adapters between MONAI Label's tasks and the server's service."""
