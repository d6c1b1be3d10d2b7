"""DNA language models as Galaxy tools: the package that the entry scripts call."""

__version__ = "0.1.0"
