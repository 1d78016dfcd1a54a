"""The version of the package and of the wire protocol it speaks."""

__version__ = "0.1.0"
