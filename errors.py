"""The error of a release that cannot go on because of something the operator can fix."""


class ReleaseError(Exception):
    """An operator's mistake or an outside failure, worded for the operator.

    The message says what is wrong, where, what was given, what is allowed and what to do next. `__main__` hands it to
    Pulumi as a RunError, which prints it without a traceback.
    """
