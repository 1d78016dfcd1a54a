"""Bulk pre-annotation: a folder of scans, a list of labels, and a page of what was found."""
