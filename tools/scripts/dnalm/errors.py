"""The one exception a user can cause, and how it quotes what a file says."""

import errno

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """A mistake a user can mend; its text is the one sentence they read: what, where, what to do."""


def printable(text: str) -> str:
    """Return a text on one line, its control characters and line breaks escaped as Python does."""
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode("ascii") for x in text)


def shown(text: object, most: int = 80) -> str:
    """Return what a file says of itself so that it can stand in a sentence: printable, one line, not long."""
    said = str(text)
    return printable(said) if len(said) <= most else printable(said[:most]) + "…"
