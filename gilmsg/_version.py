"""The version of this package, in one place: the marker on the wire and setup.py read it."""

__version__ = "2.0.0"
