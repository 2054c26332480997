"""Conversations as values: who says what, to whom, in which channel."""

import enum
from dataclasses import dataclass

from gptoss_weights.text.harmony.tools import FUNCTIONS, ToolNamespace

__all__ = [
    "ANALYSIS",
    "COMMENTARY",
    "FINAL",
    "JSON_CONTENT_TYPE",
    "Content",
    "DeveloperContent",
    "Message",
    "ReasoningEffort",
    "Role",
    "SystemContent",
]

ANALYSIS, COMMENTARY, FINAL = "analysis", "commentary", "final"
"""The channels of an assistant: its reasoning; calls of functions and what it says to them; its answer."""

MODEL_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
KNOWLEDGE_CUTOFF = "2024-06"
JSON_CONTENT_TYPE = "<|constrain|>json"  # the only content type whose marker becomes a special token


class Role(enum.StrEnum):
    """Who is speaking; instructions of an earlier one in this list outweigh those of a later one."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ReasoningEffort(enum.StrEnum):
    """How long the model is to think before it answers."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True)
class SystemContent:
    """What the system message says of the model and of the day; None, or nothing, leaves a line out.

    Args:
        model_identity: The first line.
        knowledge_cutoff: Where the training data ends, `YYYY-MM`.
        conversation_start_date: The current date, `YYYY-MM-DD`. The clock is never asked.
        reasoning_effort: How long to think.
        tools: Built-in tools, `BROWSER` and `PYTHON`; rendered in the order of their names.
        valid_channels: Channels that the model may use.
        channel_required: Whether to say that each message must have one.
    """

    model_identity: str | None = MODEL_IDENTITY
    knowledge_cutoff: str | None = KNOWLEDGE_CUTOFF
    conversation_start_date: str | None = None
    reasoning_effort: ReasoningEffort | None = ReasoningEffort.MEDIUM
    tools: tuple[ToolNamespace, ...] = ()
    valid_channels: tuple[str, ...] = (ANALYSIS, COMMENTARY, FINAL)
    channel_required: bool = True


@dataclass(frozen=True, kw_only=True)
class DeveloperContent:
    """What elsewhere is called the system prompt: instructions, and the functions that the model may call.

    Args:
        instructions: Rendered below a heading of their own.
        tools: Usually one namespace, made by `functions`; rendered in the order of their names.
    """

    instructions: str | None = None
    tools: tuple[ToolNamespace, ...] = ()

    @property
    def has_functions(self) -> bool:
        """Whether a tool stands in the namespace `functions`; the system message then says where calls go."""
        return any(namespace.name == FUNCTIONS and namespace.tools for namespace in self.tools)


type Content = str | SystemContent | DeveloperContent


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Args:
        role: Who speaks.
        content: What is said; several parts are rendered behind one another.
        name: A tool's full name, such as `functions.get_weather`, which every tool needs; or a speaker's.
        recipient: To whom; None or `all` is everybody. A tool's name makes an assistant's message a call.
        channel: `ANALYSIS`, `COMMENTARY` or `FINAL` for an assistant; tools answer in the caller's.
        content_type: What the content is written in, e.g. `JSON_CONTENT_TYPE`.
    """

    role: Role
    content: Content | tuple[Content, ...]
    name: str | None = None
    recipient: str | None = None
    channel: str | None = None
    content_type: str | None = None

    @property
    def parts(self) -> tuple[Content, ...]:
        """The content as a tuple, also where it is one part."""
        return self.content if isinstance(self.content, tuple) else (self.content,)

    @property
    def text(self) -> str:
        """The plain text of the content; system and developer contents have none."""
        return "".join(part for part in self.parts if isinstance(part, str))
