"""One task each, from records to results, told in the order of a paper's methods section."""
