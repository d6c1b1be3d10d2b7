import csv
from pathlib import Path

from dnalm.formats.tables import TableWriter


def test_chunks_make_one_table_with_one_header(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as table:
        table.append({"id": ["a", 'with "quotes"'], "length": [1, 2]})
        table.append({"id": ["c\\d"], "length": [3]})
    assert (tmp_path / "t").read_text() == 'id\tlength\na\t1\nwith "quotes"\t2\nc\\d\t3\n'
    rows = list(csv.reader((tmp_path / "t").open(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows[2] == ['with "quotes"', "2"]
