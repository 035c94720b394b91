"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(Exception):
    """Something the user gave cannot be used as it is.

    The message is one line that names the file or field, the value, what was expected and how to mend it. The
    command line prints it without a traceback and exits with code 2. Line breaks, as a file's name or what a library
    says may hold, become spaces.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())
