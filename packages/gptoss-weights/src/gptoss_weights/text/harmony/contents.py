"""The text of system and developer messages: sections with a blank line between, as openai-harmony writes them."""

from gptoss_weights.text.harmony.conversation import DeveloperContent, SystemContent
from gptoss_weights.text.harmony.tools import ToolNamespace
from gptoss_weights.text.harmony.typescript import typescript_type

__all__ = ["developer_text", "system_text"]

FUNCTION_CALLS_NOTE = "Calls to these tools must go to the commentary channel: 'functions'."


def system_text(content: SystemContent, *, has_functions: bool) -> str:
    """What a system message says.

    Args:
        content: The values to be said.
        has_functions: Whether a developer message of the conversation offers functions.
    """
    facts = []
    if content.model_identity is not None:
        facts.append(content.model_identity)
    if content.knowledge_cutoff is not None:
        facts.append(f"Knowledge cutoff: {content.knowledge_cutoff}")
    if content.conversation_start_date is not None:
        facts.append(f"Current date: {content.conversation_start_date}")
    sections = ["\n".join(facts)] if facts else []
    if content.reasoning_effort is not None:
        sections.append(f"Reasoning: {content.reasoning_effort}")
    sections += _tool_sections(content.tools)
    if content.valid_channels:
        channels = f"# Valid channels: {', '.join(content.valid_channels)}."
        channels += " Channel must be included for every message." if content.channel_required else ""
        channels += f"\n{FUNCTION_CALLS_NOTE}" if has_functions else ""
        sections.append(channels)
    return "\n\n".join(sections)


def developer_text(content: DeveloperContent) -> str:
    """What a developer message says."""
    sections = [] if content.instructions is None else ["# Instructions", content.instructions]
    return "\n\n".join([*sections, *_tool_sections(content.tools)])


def _tool_sections(namespaces: tuple[ToolNamespace, ...]) -> list[str]:
    if not namespaces:
        return []
    names = [namespace.name for namespace in namespaces]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"tool namespaces are given twice: {', '.join(twice)}; put all their tools into one")
    return ["# Tools", *(_namespace(namespace) for namespace in sorted(namespaces, key=lambda each: each.name))]


def _namespace(namespace: ToolNamespace) -> str:
    lines = [f"## {namespace.name}\n"]
    prefix = "// " if namespace.tools else ""
    lines += [f"{prefix}{line}" for line in _lines(namespace.description or "")]
    if namespace.tools:
        lines.append(f"namespace {namespace.name} {{\n")
        for tool in namespace.tools:
            lines += [f"// {line}" for line in _lines(tool.description)]
            argument = "" if tool.parameters is None else f"_: {typescript_type(tool.parameters)}"
            lines.append(f"type {tool.name} = ({argument}) => any;\n")
        lines.append(f"}} // namespace {namespace.name}")
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    """Lines as Rust's `str::lines` cuts them: at line feeds alone, none after the last, no carriage return before."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
        return [line.removesuffix("\r") for line in lines]
    return [*(line.removesuffix("\r") for line in lines[:-1]), lines[-1]]
