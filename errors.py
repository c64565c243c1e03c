"""The error of a release that cannot go on because of something the operator can fix, and names in messages."""


class ReleaseError(Exception):
    """An operator's mistake or an outside failure, worded for the operator.

    The message says what is wrong, where, what was given, what is allowed and what to do next. `__main__` hands it to
    Pulumi as a RunError, which prints it without a traceback.
    """


def printable(name: str) -> str:
    """A file's name, as Python reads it from the disk, for a message.

    Names are bytes, and neither terminals nor Pulumi take those that are no UTF-8.
    """
    return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
