"""The one exception a user can cause."""


class UserError(Exception):
    """A mistake a user can mend; its text is the one sentence they read: what, where, what to do."""
