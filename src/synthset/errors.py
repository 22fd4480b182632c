"""The one exception that scripts turn into a single line instead of a traceback."""


class InputError(ValueError):
    """Something the user gave can't be used: a file, a flag, a folder, a full disk.

    The message is one line that names the thing, the value that was found and the remedy.
    """
