import os
from pathlib import Path

import pytest
from dnalm.errors import UserError
from dnalm.formats.reference import Reference


def test_a_servers_index_is_used_while_it_is_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">a\nACGTACGT\n>b\nTTTT\n")
    index = tmp_path / "genome.fa.fai"
    index.write_text("a\t8\t3\t8\t9\n")
    with Reference(path) as genome:
        assert genome.lengths == {"a": 8}
    os.utime(index, (0, 0))
    with Reference(path) as genome:
        assert genome.lengths == {"a": 8, "b": 4}
        assert genome.fetch("b", 1, 3, "x").bases == "TT"


@pytest.mark.parametrize("content", [b"", b"no fasta", b">a\nACGT\nAC\nACGT\n", b"\x1f\x8bnonsense"])
def test_what_is_no_genome_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be indexed"), Reference(path) as genome:
        assert genome.lengths
