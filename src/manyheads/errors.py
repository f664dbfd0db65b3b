"""Expected errors: each message is one line that names the file or key, the cause and the remedy.

The command line prints only the message and exits with the exit code of the class. Any other exception is a bug and has
a traceback.
"""

import difflib
from collections.abc import Sequence


class ManyheadsError(Exception):
    """Base of all errors that are printed as one line.

    Attributes:
        exit_code: Exit code of the process.
    """

    exit_code = 1


class ConfigError(ManyheadsError):
    """A setting is unknown, of a wrong type, out of range, or in conflict with another setting."""

    exit_code = 2


class DataError(ManyheadsError):
    """The input data is missing, empty, or does not match the dataset."""

    exit_code = 3


class IntegrityError(ManyheadsError):
    """A file is damaged, unsafe, or does not match the files that it was made from."""

    exit_code = 4


class MachineError(ManyheadsError):
    """The machine lacks a package, disk space, a permission or another resource."""

    exit_code = 5


class NotPromoted(ManyheadsError):  # noqa: N818 - a model is registered as asked, but not as the champion
    """The gate of the registry made a model the challenger."""

    exit_code = 6


class Unreadable(Exception):  # noqa: N818 - concerns a single sample, not the program
    """An input cannot read the bytes of a sample.

    Attributes:
        code: A stable code, such as ``DECODE_TRUNCATED``.
        reason: Description of the problem for people.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """A callback ends a training on purpose; its run gets the status KILLED."""


def did_you_mean(key: str, known: Sequence[str]) -> str:
    """Return `` - did you mean 'x'?`` for the known name nearest to ``key``, or an empty text.

    Args:
        key: The unknown dotted name.
        known: Known dotted names; those in the section of ``key`` have precedence.

    Example:
        >>> did_you_mean("train.epoch", ["train.epochs", "audit.epochs"])
        " - did you mean 'train.epochs'?"
    """
    section, _, leaf = key.rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    near = difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.35)
    if near:
        return f" - did you mean {siblings[near[0]]!r}?"
    near = difflib.get_close_matches(key, known, n=1)
    return f" - did you mean {near[0]!r}?" if near else ""
