"""Harmony, the chat format of GPT-OSS: conversations to tokens and back, offline.

    encoding = load_harmony_encoding(Path("gpt-oss-20b"))
    conversation = [Message(Role.SYSTEM, SystemContent()), Message(Role.USER, "What is 2 + 2?")]
    prompt = encoding.render_conversation_for_completion(conversation)
    …                                                    # generate until encoding.stop_tokens_for_assistant_actions
    conversation += parse_completion(encoding, generated)

Rendering and parsing do what OpenAI's library `openai-harmony` does, token for token.
"""

from gptoss_weights.text.harmony.chat_messages import conversation_from_json
from gptoss_weights.text.harmony.chat_template import GENERATION_PROMPT, ChatTemplateOptions, render_chat_template
from gptoss_weights.text.harmony.conversation import (
    ANALYSIS,
    COMMENTARY,
    FINAL,
    JSON_CONTENT_TYPE,
    Content,
    DeveloperContent,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
)
from gptoss_weights.text.harmony.encoding import (
    EncodedConversation,
    HarmonyEncoding,
    MessageSpan,
    load_harmony_encoding,
)
from gptoss_weights.text.harmony.parser import StreamableParser, StreamState, parse_completion
from gptoss_weights.text.harmony.rendering import RenderedMessage, render_conversation, render_message, rendered_text
from gptoss_weights.text.harmony.special_tokens import FormattingToken
from gptoss_weights.text.harmony.tools import BROWSER, PYTHON, Tool, ToolNamespace, functions

__all__ = [
    "ANALYSIS",
    "BROWSER",
    "COMMENTARY",
    "FINAL",
    "GENERATION_PROMPT",
    "JSON_CONTENT_TYPE",
    "PYTHON",
    "ChatTemplateOptions",
    "Content",
    "DeveloperContent",
    "EncodedConversation",
    "FormattingToken",
    "HarmonyEncoding",
    "Message",
    "MessageSpan",
    "ReasoningEffort",
    "RenderedMessage",
    "Role",
    "StreamState",
    "StreamableParser",
    "SystemContent",
    "Tool",
    "ToolNamespace",
    "conversation_from_json",
    "functions",
    "load_harmony_encoding",
    "parse_completion",
    "render_chat_template",
    "render_conversation",
    "render_message",
    "rendered_text",
]
