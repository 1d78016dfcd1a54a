"""What the BiRD module does, one noun per file; only `BiRD.py` beside this folder knows Qt."""
