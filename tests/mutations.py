"""Files that go wrong in the ways files do: lines, cells and bytes of honest ones changed at random, from a seed."""

import gzip
import random

ODD_BYTES = (
    *(b"\0", b"\r", b"\r\n", b"\t", b" ", b'"', b"'", b",", b";", b"#", b">", b"@", b"\x1f", b"\x1b[31m", b"\x7f"),
    *(b"\xff", b"\xe9", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xed\xb3\xa9", b"\xe2\x80\xa8", b"\x85", b"\x0b", b"\x0c"),
)
ODD_CELLS = (
    *(b"", b" ", b".", b"NA", b"nan", b"inf", b"-1", b"0", b"1e400", b"1.5", b"0x10", b"1_000", b"+5", b"9" * 19),
    *(b"9" * 5_000, b"2147483648", b"4294967296", "\u0663".encode(), b"-0", b"\xe9", b'"', b'"x', b'x"', b"x" * 2_000),
    *(b"chr1", b"track", b"browser", b"##FASTA", b">x", b"<DEL>", b"*", b"A]2:3]", b"A,C", b"ACGT" * 50),
)
ODD_LINES = (
    *(b"", b"#", b"##FASTA", b"##FASTA x", b"##x=<ID=a>", b"##contig=<ID=chr1,length=7>", b">new", b"track name=x"),
    *(b"browser hide all", b"track\t1\t5", b"\t\t\t", b"   ", b"chr1\t5\t9", b"id\tlabel", b"\x1a", b"NNNN", b"----"),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a file with one to four changes, at times compressed, and then at times cut or damaged."""
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(CHANGES)(content, rng)
    chance = rng.random()
    if chance < 0.1:
        half = len(content) // 2 if rng.random() < 0.5 else 0
        content = gzip.compress(content[:half], mtime=0) + gzip.compress(content[half:], mtime=0)
        if chance < 0.03:
            content = content[: rng.randrange(len(content))]
        elif chance < 0.06:
            content = _byte(content, rng)
    return content


def _byte(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    kind = rng.random()
    if kind < 0.3:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind < 0.8:
        return content[:at] + rng.choice(ODD_BYTES) + content[at + (rng.random() < 0.5) :]
    return content[:at] + content[at + rng.randint(1, 8) :]


def _line(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        lines.insert(at, rng.choice(ODD_LINES))
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 3:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at : at + 2] = [b"".join(lines[at : at + 2])]
    return b"\n".join(lines)


def _cell(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(b"\t")
    cell = rng.randrange(len(cells))
    kind = rng.randrange(5)
    if kind == 0:
        cells[cell] = rng.choice(ODD_CELLS)
    elif kind == 1:
        cells.insert(cell, rng.choice(ODD_CELLS))
    elif kind == 2:
        del cells[cell]
    elif kind == 3:
        cells[cell] = b" " + cells[cell] + b" "
    else:
        cells[cell] = b'"' + cells[cell] + b'"'
    lines[at] = b"\t".join(cells)
    return b"\n".join(lines)


def _whole(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return content.replace(b"\n", b"\r\n")
    if kind == 1:
        return b"\xef\xbb\xbf" + content
    if kind == 2:
        return content.rstrip(b"\n")
    if kind == 3:
        return content.replace(b"\n", b"\t\n")
    if kind == 4:
        return content[: rng.randrange(len(content) + 1)]
    if kind == 5:
        return content.replace(b"\t", rng.choice((b",", b";", b" ", b"\t\t")))
    if kind == 6:
        return content.replace(b"\n", b"\n\n")
    return content.replace(b"\n", b"\r")


CHANGES = (_byte, _byte, _line, _line, _cell, _cell, _cell, _whole)
