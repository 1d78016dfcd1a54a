"""One reader per kind of source; each yields `bird_training.records.PictureRecord`."""
