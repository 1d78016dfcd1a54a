"""A reviewed case as files for other programs and for people; one module per format."""
