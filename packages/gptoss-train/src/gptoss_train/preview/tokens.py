"""The tokens of a sample as they are shown: what each spells, whose it is, and whether the model learns to say it."""

from collections.abc import Iterator
from dataclasses import dataclass

from gptoss_weights.text import Tokenizer
from gptoss_weights.text.harmony import Role

from gptoss_train.data.samples import Sample

__all__ = ["ShownToken", "shown_tokens", "token_text"]

PLAIN = "text"
UNWRITTEN = str.maketrans({"\n": "↵\n", "\t": "→\t", "\r": "␍"})


@dataclass(frozen=True)
class ShownToken:
    """One token.

    Args:
        text: What it spells; where the model learns to say another one, also that, behind an arrow.
        kind: Its channel if it is an assistant's, or else its role; `text` in a plain text.
        is_learnt: Whether the model learns to say it.
        note: What is said of it when it is pointed at.
    """

    text: str
    kind: str
    is_learnt: bool
    note: str


def shown_tokens(sample: Sample, tokenizer: Tokenizer | None, *, most: int) -> Iterator[ShownToken]:
    """The first tokens of a sample.

    Args:
        sample: The sample.
        tokenizer: Spells the tokens; without one they are shown as numbers.
        most: How many.
    """
    kinds = [PLAIN] * len(sample)
    for span in sample.spans:
        is_channel = span.role is Role.ASSISTANT and span.channel is not None
        kinds[span.start : span.end] = [str(span.channel if is_channel else span.role)] * (span.end - span.start)
    for place, (token, kind) in enumerate(zip(sample.tokens[:most].tolist(), kinds, strict=False)):
        is_learnt = place > 0 and bool(sample.weights[place - 1])
        note = f"{kind} · token {token} at {place} · {'learnt' if is_learnt else 'only read'}"
        text = token_text(token, tokenizer)
        if is_learnt and (said := int(sample.targets[place - 1])) != token:
            note += f" as token {said}"
            text += f"⇒{token_text(said, tokenizer)}"
        yield ShownToken(text, kind, is_learnt, note)


def token_text(token: int, tokenizer: Tokenizer | None) -> str:
    """What a token spells, with signs for what cannot be seen; bytes that are no character by their number."""
    written = None if tokenizer is None else tokenizer.token_bytes(token)
    if written is None:
        return f" {token} "
    text = written.decode("utf-8", "backslashreplace").translate(UNWRITTEN)
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)
