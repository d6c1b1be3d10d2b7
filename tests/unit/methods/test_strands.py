from Bio.Seq import Seq
from dnalm.methods.strands import reverse_complement


def test_equals_biopython() -> None:
    for bases in ("", "A", "ACGTN", "TTGACNNGATC"):
        assert reverse_complement(bases) == str(Seq(bases).reverse_complement())
