"""Infer tasks, one per question that the stock MONAI Label plugin can put."""
