"""Errors that a person can mend: each is one line that names the file or key, the cause and the remedy.

The command line prints the message alone and exits with the class's code. Anything else that is raised is a bug and
keeps its traceback.
"""


class ManyheadsError(Exception):
    """Base of all errors that are printed as one line."""

    exit_code = 1


class ConfigError(ManyheadsError):
    """A setting is unknown, ill-typed, out of range or at odds with another one."""

    exit_code = 2


class DataError(ManyheadsError):
    """The input data is missing, empty, or not what the dataset promises."""

    exit_code = 3


class IntegrityError(ManyheadsError):
    """A file is damaged, unsafe, or does not fit the files it was made from."""

    exit_code = 4


class MachineError(ManyheadsError):
    """The machine lacks something: a package, space, a permission."""

    exit_code = 5


class Unreadable(Exception):  # noqa: N818 - a finding about one sample, not a failure of the program
    """The bytes of one sample are not what its input reads.

    Attributes:
        code: A stable code, such as ``DECODE_TRUNCATED``.
        reason: What was found, for a person.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class TrainingStopped(Exception):  # noqa: N818 - nothing went wrong
    """A training is ended on purpose; its run ends as KILLED."""
