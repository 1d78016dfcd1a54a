"""Volumes on disk: uploads, archives, studies."""
