"""The one exception a user can cause, and how it quotes what a file says."""


class UserError(Exception):
    """A mistake a user can mend; its text is the one sentence they read: what, where, what to do."""


def shown(text: object, most: int = 80) -> str:
    """Return what a file says of itself so that it can stand in a sentence: printable, one line, not long."""
    printable = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(text)[: most + 1])
    return printable if len(printable) <= most else printable[:most] + "…"
