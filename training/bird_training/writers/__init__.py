"""Facts of a picture in, sentences out: an offline writer and one that asks a language model.

`options.py` tells what a command has to offer and how to open a writer.
"""
