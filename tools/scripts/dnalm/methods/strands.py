"""The other strand."""

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def reverse_complement(bases: str) -> str:
    """Return the sequence of the other strand, read 5' to 3'; letters A, C, G, T and N."""
    return bases.translate(COMPLEMENT)[::-1]
