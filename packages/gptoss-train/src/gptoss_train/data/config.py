"""What is learnt from, as a value: where the records are, how they become tokens, and in which order they come."""

from dataclasses import dataclass, replace
from typing import Literal

from gptoss_weights.text.harmony import SystemContent

__all__ = ["ColumnsConfig", "ConversationConfig", "DataConfig", "HuggingFaceConfig", "SyntheticConfig"]


ALL_CHANNELS: tuple[Literal["analysis", "commentary", "final"], ...] = ("analysis", "commentary", "final")


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Sequences that obey a rule a small model can learn: walks around a ring of tokens.

    Which tokens form the ring, and in which order, is the seed's; each step goes on by one place or a few,
    evenly, so that no model's loss is below `ln(branching)`, but for a walk's start, and a good one's is there.

    Args:
        records: How many walks there are.
        shortest: Fewest tokens of one.
        longest: Most tokens of one.
        symbols: Tokens in the ring.
        branching: How many tokens may follow one.
    """

    records: int = 4096
    shortest: int = 16
    longest: int = 256
    symbols: int = 64
    branching: int = 2

    def __post_init__(self) -> None:
        if self.records < 1 or not 2 <= self.shortest <= self.longest or not 1 <= self.branching < self.symbols:
            raise ValueError(
                "data.synthetic: expected records ≥ 1, 2 ≤ shortest ≤ longest and 1 ≤ branching < symbols, "
                f"found {self}"
            )


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig:
    """A dataset of the Hugging Face Hub, or a folder that holds one; needs the extra `datasets`.

    For a gated one log in with `hf auth login`, or set HF_TOKEN: a secret has no place in a config.

    Args:
        name: Its name on the Hub, such as `owner/name`, or a folder.
        subset: Which of its configurations, if it has several; a dataset that `save_to_disk` left has none.
        split: Which part of it: a split, a slice such as `train[:1000]` or `train[10%:]`, or a sum such as
            `train+test`. A single saved dataset has the split that it was made of, or else `train`.
        revision: A branch, tag or commit of its repository; a folder has none.
    """

    name: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnsConfig:
    """Under which names a record says what; a record without `reasoning_effort`, `tools` … goes without.

    Args:
        text: A plain text.
        messages: A conversation, `[{"role": …, "content": …}, …]`.
        prompt: What a user says, or the messages up to there.
        completion: The answer, or the messages from there on, of which alone is learnt.
        question: What a user says, in the shape question and answer.
        answer: The answer to it.
        thinking: The reasoning before a completion or an answer.
        instructions: The developer's instructions before a prompt or a question.
        tools: Functions that the model may call, in OpenAI's shape, as a list or its JSON as text.
        reasoning_effort: How long this sample thinks: low, medium or high.
    """

    text: str = "text"
    messages: str = "messages"
    prompt: str = "prompt"
    completion: str = "completion"
    question: str = "question"
    answer: str = "answer"
    thinking: str = "thinking"
    instructions: str = "instructions"
    tools: str = "tools"
    reasoning_effort: str = "reasoning_effort"


@dataclass(frozen=True, kw_only=True)
class ConversationConfig:
    """How conversations are rendered, and what of them is learnt.

    Args:
        model_identity: First line of the system message; null leaves it out.
        knowledge_cutoff: Where the training data ends, `YYYY-MM`; null leaves it out.
        current_date: The date that the system message states, `YYYY-MM-DD`; null states none.
        reasoning_effort: Of samples that do not say their own.
        reasoning_kept: Which reasoning stays in the conversation: `all`; that of the `last_turn`, as a chat shows
            its history to the model; or `harmony`, what `openai-harmony` keeps by default, which leaves out all
            reasoning before the first final answer of a conversation that ends in one.
        loss_on: `assistant` learns what the assistant writes, its stop tokens included; `all` every token.
        channels: Of which channels the assistant's messages are learnt.
        turns: `all` turns of the assistant are learnt, or the `last`: what follows the last message of a user.
    """

    model_identity: str | None = SystemContent.model_identity
    knowledge_cutoff: str | None = SystemContent.knowledge_cutoff
    current_date: str | None = None
    reasoning_effort: Literal["low", "medium", "high"] = "medium"
    reasoning_kept: Literal["all", "last_turn", "harmony"] = "all"
    loss_on: Literal["assistant", "all"] = "assistant"
    channels: tuple[Literal["analysis", "commentary", "final"], ...] = ALL_CHANNELS
    turns: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("data.conversation.channels: there is no channel to learn; expected at least one")
        if self.loss_on == "all" and (self.turns != "all" or len(set(self.channels)) < len(ALL_CHANNELS)):
            raise ValueError(
                "data.conversation: loss_on 'all' learns every token, so turns and channels choose nothing; "
                "leave them as they are by default, or set loss_on to 'assistant'"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learnt from.

    Args:
        source: `synthetic` sequences; `text` files; `jsonl` files, one JSON object a line; a `huggingface` dataset.
        files: Paths or patterns such as `books/**/*.txt`, of `text` and `jsonl`.
        document: What one document of a text file is: the whole `file`, a `paragraph`, or a `line`.
        format: What a record of `jsonl` or `huggingface` is: a `text`, a `conversation`, or by its columns (`auto`).
        columns: The names of its columns.
        synthetic: The synthetic sequences.
        huggingface: The dataset of the Hub.
        conversation: How conversations are rendered and learnt.
        end_of_text: Whether a text ends with `<|endoftext|>`.
        skip: Records left out at the beginning: what is held out for evaluation.
        take: Records taken after those; null takes all.
        epochs: How often all records are gone through; null does not end.
        shuffle: Whether they come in an order by the seed, another one in each epoch.
        overlong: What becomes of a sample longer than a row: `split` into samples that follow one another, which
            only a text can be; `cut` at the end; or `drop`. `auto` splits texts and cuts conversations.
        without_loss: Samples of which nothing is learnt are kept, or dropped; counted in any case. A batch of
            nothing else is an error.
        packing: How samples share a row: `best_fit`, `first_fit`, or `none`, one sample a row.
        packing_window: Samples that are packed at a time, and whose rows are shuffled among each other.
        threads: Threads that read and tokenize ahead, a window but no more than 1024 records; 0 reads when asked.
            null: two, and none for what is synthetic, which is sooner made than handed over.
    """

    source: Literal["synthetic", "text", "jsonl", "huggingface"] = "synthetic"
    files: tuple[str, ...] = ()
    document: Literal["file", "paragraph", "line"] = "file"
    format: Literal["auto", "text", "conversation"] = "auto"
    columns: ColumnsConfig = ColumnsConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    huggingface: HuggingFaceConfig = HuggingFaceConfig()
    conversation: ConversationConfig = ConversationConfig()
    end_of_text: bool = True
    skip: int = 0
    take: int | None = None
    epochs: int | None = None
    shuffle: bool = True
    overlong: Literal["auto", "split", "cut", "drop"] = "auto"
    without_loss: Literal["keep", "drop"] = "keep"
    packing: Literal["best_fit", "first_fit", "none"] = "best_fit"
    packing_window: int = 256
    threads: int | None = None

    def __post_init__(self) -> None:
        needs_files, has_name = self.source in ("text", "jsonl"), self.huggingface.name is not None
        problems = [
            words
            for is_wrong, words in (
                (needs_files and not self.files, f"files: source {self.source!r} needs at least one"),
                (not needs_files and bool(self.files), f"files: source {self.source!r} reads none"),
                (self.source == "huggingface" and not has_name, "huggingface.name: it names no dataset"),
                (
                    self.source != "huggingface" and self.huggingface != HuggingFaceConfig(),
                    f"huggingface: source {self.source!r} reads none",
                ),
                (self.skip < 0, f"skip: expected 0 or more, found {self.skip}"),
                (self.take is not None and self.take < 1, f"take: expected null, or 1 or more, found {self.take}"),
                (
                    self.epochs is not None and self.epochs < 1,
                    f"epochs: expected null, or 1 or more, found {self.epochs}",
                ),
                (self.packing_window < 1, f"packing_window: expected 1 or more, found {self.packing_window}"),
                ((self.threads or 0) < 0, f"threads: expected 0 or more, found {self.threads}"),
                (
                    self.overlong == "split" and self.format == "conversation",
                    "overlong: a conversation cannot be split; expected 'cut' or 'drop'",
                ),
            )
            if is_wrong
        ]
        if problems:
            raise ValueError("; ".join(f"data.{problem}" for problem in problems))

    def for_evaluation(self) -> "DataConfig":
        """The same, gone through once and in the order of its records."""
        return replace(self, epochs=1, shuffle=False)
