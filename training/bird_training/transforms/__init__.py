"""MONAI transforms from files to training pictures, one kind of source per file."""
