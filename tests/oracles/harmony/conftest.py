"""The official sides of Harmony: OpenAI's library on the real vocabulary, and the published chat template.

The published `tokenizer.json` (27 MB) is made again, byte for byte, from the list of its tokens, which the
package `bpe-openai` ships; the checksum that Hugging Face published for the file proves it.
"""

import base64
import datetime
import gzip
import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights.text.harmony import (
    DeveloperContent,
    HarmonyEncoding,
    Message,
    SystemContent,
    ToolNamespace,
    load_harmony_encoding,
)

# The checksum in the LFS pointer of openai/gpt-oss-20b.
TOKENIZER_SHA256 = "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3"
# o200k_harmony, from the file that openai/gpt-oss publishes as tokenizer_config.json.
NAMED_TOKENS = {
    199998: "<|startoftext|>",
    199999: "<|endoftext|>",
    200002: "<|return|>",
    200003: "<|constrain|>",
    200005: "<|channel|>",
    200006: "<|start|>",
    200007: "<|end|>",
    200008: "<|message|>",
    200012: "<|call|>",
    200018: "<|endofprompt|>",
}
WORD_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


@pytest.fixture(scope="session")
def vocabulary() -> bytes:
    """The file o200k_base.tiktoken."""
    package = importlib.util.find_spec("bpe_openai")
    assert package is not None
    assert package.origin is not None
    return gzip.decompress((Path(package.origin).parent / "data" / "o200k_base.tiktoken.gz").read_bytes())


@pytest.fixture(scope="session")
def published_tokenizer(vocabulary: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer.json of openai/gpt-oss-20b."""
    path = tmp_path_factory.mktemp("gpt-oss-20b") / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_document(vocabulary), ensure_ascii=False, indent=2))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == TOKENIZER_SHA256
    return path


@pytest.fixture(scope="session")
def encoding(published_tokenizer: Path) -> HarmonyEncoding:
    """Ours."""
    return load_harmony_encoding(published_tokenizer)


@pytest.fixture(scope="session")
def official(vocabulary: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """OpenAI's."""
    import openai_harmony

    folder = tmp_path_factory.mktemp("encodings")
    (folder / "o200k_base.tiktoken").write_bytes(vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_ENCODINGS_BASE", str(folder))
        return openai_harmony.load_harmony_encoding("HarmonyGptOss")


@pytest.fixture(scope="session")
def to_official() -> Callable[[list[Message]], Any]:
    """A conversation of ours as one of OpenAI's library."""
    import openai_harmony

    def convert(messages: list[Message]) -> Any:
        return openai_harmony.Conversation.from_messages([official_message(message) for message in messages])

    return convert


@pytest.fixture(scope="session")
def from_official() -> Callable[[Any], Message]:
    """A message that OpenAI's library has parsed, as one of ours."""
    from gptoss_weights.text.harmony import Role

    def convert(message: Any) -> Message:
        (content,) = message.content
        return Message(
            Role(message.author.role.value),
            content.text,
            message.author.name,
            message.recipient,
            message.channel,
            message.content_type,
        )

    return convert


@pytest.fixture(scope="session")
def published_template(reference: Path) -> Callable[..., str]:
    """The published chat template, rendered by transformers; `date` is what the template takes for today."""
    from jinja2 import TemplateError
    from transformers.utils import chat_template_utils

    source = (reference / "published" / "gpt-oss-20b" / "chat_template.jinja").read_text()

    def render(messages: list[dict[str, Any]], *, date: str, **options: Any) -> str:
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Clock":
                return cls.fromisoformat(date)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chat_template_utils, "datetime", Clock)
            (text,), _ = chat_template_utils.render_jinja_template([messages], chat_template=source, **options)
        return text

    render.refusals = (TemplateError, TypeError)
    return render


def official_message(message: Message) -> Any:
    """One message as openai-harmony's."""
    import openai_harmony as harmony

    author = harmony.Author(role=harmony.Role(message.role.value), name=message.name)
    return harmony.Message(
        author=author,
        content=[official_content(part) for part in message.parts],
        channel=message.channel,
        recipient=message.recipient,
        content_type=message.content_type,
    )


def official_content(part: str | SystemContent | DeveloperContent) -> Any:
    """One part of a content as openai-harmony's."""
    import openai_harmony as harmony

    if isinstance(part, str):
        return harmony.TextContent(text=part)
    tools = {namespace.name: official_namespace(namespace) for namespace in part.tools} or None
    if isinstance(part, DeveloperContent):
        return harmony.DeveloperContent(instructions=part.instructions, tools=tools)
    effort = part.reasoning_effort
    return harmony.SystemContent(
        model_identity=part.model_identity,
        reasoning_effort=None if effort is None else harmony.ReasoningEffort(effort.value.capitalize()),
        conversation_start_date=part.conversation_start_date,
        knowledge_cutoff=part.knowledge_cutoff,
        channel_config=harmony.ChannelConfig(
            valid_channels=list(part.valid_channels), channel_required=part.channel_required
        ),
        tools=tools,
    )


def official_namespace(namespace: ToolNamespace) -> Any:
    """Tools as openai-harmony's."""
    import openai_harmony as harmony

    tools = [
        harmony.ToolDescription(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in namespace.tools
    ]
    return harmony.ToolNamespaceConfig(name=namespace.name, description=namespace.description, tools=tools)


def tokenizer_document(vocabulary: bytes) -> dict[str, Any]:
    """The published tokenizer.json: what transformers' converter makes of the vocabulary, and the special tokens."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    spelled = bytes_to_unicode()
    ranks: dict[bytes, int] = {}
    for line in vocabulary.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    names = {token: "".join(spelled[byte] for byte in token) for token in ranks}
    merges = []
    for token in ranks:
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(left, right) for left, right in halves if left in ranks and right in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": WORD_PATTERN}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = range(min(NAMED_TOKENS), max(NAMED_TOKENS) + 1)
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True}
    model |= {"vocab": {names[token]: rank for token, rank in ranks.items()}}
    model |= {"merges": [[names[left], names[right]] for left, right in merges]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id_, "content": NAMED_TOKENS.get(id_, f"<|reserved_{id_}|>"), **flags} for id_ in added
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, byte_level | {"add_prefix_space": False, "use_regex": False}],
        },
        "post_processor": byte_level | {"trim_offsets": False},
        "decoder": byte_level,
        "model": model,
    }
