"""Exception that commands report in one line instead of a traceback."""


class InputError(ValueError):
    """Invalid input of the user, such as a file, a flag or a folder.

    The message is one line that names the input, its value and the remedy. Characters that are not printable, as names
    of files may have, are escaped.
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
