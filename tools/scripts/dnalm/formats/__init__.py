"""One file format each, streaming in and out."""
