"""Data, training and evaluation of BiRD: from masks to questions, from questions to weights."""
