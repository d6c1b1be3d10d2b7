"""Model files, where models come from, architectures and their tokenizers."""
