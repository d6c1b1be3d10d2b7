"""How to run a model fast and safely: devices, batches, inference."""
