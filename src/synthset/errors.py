"""Exception that commands report in one line instead of a traceback."""


class InputError(ValueError):
    """Invalid input of the user, such as a file, a flag or a folder.

    The message is one line that names the input, its value and the remedy.
    """
