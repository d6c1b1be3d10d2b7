"""Progress lines and what was run."""
