"""The errors that users meet: what, where, expected, found, and what to do next."""

__all__ = [
    "CheckpointError",
    "ConversationError",
    "GptOssError",
    "GptOssWarning",
    "MissingDependencyError",
    "NetworkError",
    "NotEnoughSpaceError",
    "NotUnicodeError",
    "ParityError",
]


class GptOssError(Exception):
    """A failure that one sentence explains; every command prints it without a traceback.

    The message is put together from its parts, so that each error says the same things in the
    same order.

    Args:
        what: What is wrong, as a sentence without its full stop.
        where: The file, tensor or option that it is about.
        expected: What should have been there.
        found: What was there instead.
        fix: What the reader can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        expected: object | None = None,
        found: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.fix = what, where, expected, found, fix
        self.problem = what if where is None else f"{where}: {what}"
        """All but the fix: for an error that gathers several and says one next step."""
        if expected is not None:
            self.problem += f"; expected {expected}"
        if found is not None:
            self.problem += f"; found {found}"
        super().__init__(self.problem if fix is None else f"{self.problem}. {fix}")


class GptOssWarning(UserWarning):
    """Something odd that changes no result; commands print it as one line, `warning: …`."""


class CheckpointError(GptOssError):
    """A file that is not what it should be: a checkpoint, a config, a trace, an exported model."""


class ConversationError(GptOssError):
    """A conversation that is not what it should be: its messages in JSON, or tokens that are no Harmony."""


class NotUnicodeError(ConversationError, ValueError):
    """A text that UTF-8 cannot write: bytes that were no text, or half of a surrogate pair."""


class ParityError(GptOssError):
    """Two implementations disagree beyond the stated tolerance."""


class MissingDependencyError(GptOssError):
    """An optional package or a device that the request needs is not there."""


class NotEnoughSpaceError(GptOssError):
    """Memory or disk does not suffice for what was asked."""


class NetworkError(GptOssError):
    """The network, or the server behind it, did not deliver."""
