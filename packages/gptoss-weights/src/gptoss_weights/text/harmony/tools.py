"""Tools that a model may call: functions by JSON schema, and the two that the published models were trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BROWSER", "FUNCTIONS", "PYTHON", "Tool", "ToolNamespace", "functions"]

FUNCTIONS = "functions"
"""The namespace of a developer's functions."""


@dataclass(frozen=True)
class Tool:
    """One function that a model may call.

    Args:
        name: Its name within the namespace.
        description: What it does; each line becomes a comment.
        parameters: The JSON schema of its argument; None for a function without one.
    """

    name: str
    description: str
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ToolNamespace:
    """Tools under a common name; one without tools, as `PYTHON`, is called by its own name.

    Args:
        name: What stands before the dot in a recipient.
        tools: The functions, in the order in which they are shown.
        description: What they have in common.
    """

    name: str
    tools: tuple[Tool, ...] = ()
    description: str | None = None


def functions(*tools: Tool) -> ToolNamespace:
    """A developer's functions: the namespace that `DeveloperContent.tools` usually holds."""
    return ToolNamespace(FUNCTIONS, tools)


_DRIVE = "/".join(["", "mnt", "data"])  # the interpreter's; spelled so, it is not taken for a path of this machine
# The texts are part of the format: openai/harmony `chat.rs`, and word for word in the published chat template.
BROWSER = ToolNamespace(
    "browser",
    (
        Tool(
            "search",
            "Searches for information related to `query` and displays `topn` results.",
            {
                "type": "object",
                "properties": {
                    "query": {"type": "string"},
                    "topn": {"type": "number", "default": 10},
                    "source": {"type": "string"},
                },
                "required": ["query"],
            },
        ),
        Tool(
            "open",
            "Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, "
            "showing `num_lines` lines.\n"
            "Valid link ids are displayed with the formatting: `【{id}†.*】`.\n"
            "If `cursor` is not provided, the most recent page is implied.\n"
            "If `id` is a string, it is treated as a fully qualified URL associated with `source`.\n"
            "If `loc` is not provided, the viewport will be positioned at the beginning of the document or centered "
            "on the most relevant passage, if available.\n"
            "Use this function without `id` to scroll to a new location of an opened page.",
            {
                "type": "object",
                "properties": {
                    "id": {"type": ["number", "string"], "default": -1},
                    "cursor": {"type": "number", "default": -1},
                    "loc": {"type": "number", "default": -1},
                    "num_lines": {"type": "number", "default": -1},
                    "view_source": {"type": "boolean", "default": False},
                    "source": {"type": "string"},
                },
            },
        ),
        Tool(
            "find",
            "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.",
            {
                "type": "object",
                "properties": {"pattern": {"type": "string"}, "cursor": {"type": "number", "default": -1}},
                "required": ["pattern"],
            },
        ),
    ),
    "Tool for browsing.\n"
    "The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n"
    "Cite information from the tool using the following format:\n"
    "`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n"
    "Do not quote more than 10 words directly from the tool output.\n"
    "sources=web (default: web)",
)
"""Search, open and find on the web; belongs into the system message."""

PYTHON = ToolNamespace(
    "python",
    description="Use this tool to execute Python code in your chain of thought. The code will not be shown to the "
    "user. This tool should be used for internal reasoning, but not for code that is intended to be visible to the "
    "user (e.g. when creating plots, tables, or files).\n\n"
    "When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook "
    "environment. python will respond with the output of the execution or time out after 120.0 seconds. The drive at "
    f"'{_DRIVE}' can be used to save and persist user files. Internet access for this session is UNKNOWN. Depends on "
    "the cluster.",
)
"""A stateful Python interpreter; belongs into the system message."""
