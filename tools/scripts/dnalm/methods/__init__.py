"""Pure functions on arrays and strings, each with its definition and its source."""
