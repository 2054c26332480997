"""What was measured once for a whole comparison, in sentences that the terminal, Markdown and the page share."""

from collections.abc import Iterator

from gptoss_parity.compare import Comparison
from gptoss_parity.logits_measures import LogitsMeasures
from gptoss_parity.noise import Noise
from gptoss_parity.replay import DivergenceSplit
from gptoss_parity.report.numbers import number, percent

__all__ = ["finding_sentences"]


def finding_sentences(comparison: Comparison) -> Iterator[str]:
    """Distributions, positions that the prompt did not reach, noise of the reference, and how the divergence splits."""
    logits = next((probe.logits for probe in comparison.probes if probe.logits is not None), None)
    if logits is not None:
        yield _distributions(logits)
    missed = [canary.position for canary in comparison.canaries if not canary.is_reached]
    if missed:
        yield f"positions not reached by this prompt: {', '.join(map(str, missed))}"
    yield from map(_noise, comparison.noise)
    if comparison.split is not None:
        yield _split(comparison.split)


def _distributions(logits: LogitsMeasures) -> str:
    return (
        f"KL mean {number(logits.kl_mean)}, p95 {number(logits.kl_p95)}, max {number(logits.kl_max)} at token "
        f"{logits.kl_max_token}; top-{logits.top_k} overlap {percent(logits.top_k_overlap)}, Jaccard "
        f"{percent(logits.jaccard)}, same rank {percent(logits.rank_agreement)}; argmax outside near-ties "
        f"{percent(logits.argmax_agreement_outside_ties)}"
    )


def _noise(noise: Noise) -> str:
    if noise.is_exact:
        return f"the reference {noise.what} is exactly the same"
    return (
        f"the reference {noise.what} is itself {number(noise.relative_l2)} away (relative L2 of the logits), "
        f"KL max {number(noise.kl_max)}, {noise.flips} flips"
    )


def _split(split: DivergenceSplit) -> str:
    caused = int(split.is_caused.sum())
    where = "no token's KL is more than that of computing differently"
    if caused:
        tokens = "token" if caused == 1 else "tokens"
        where = f"{percent(split.removed_share_where_caused)} at the {caused} {tokens} where flips cause it"
    return (
        f"with the same experts ({split.forced} forced) {percent(split.removed_share)} of the KL is gone, {where}; "
        f"{number(split.chosen_kl)} a token is other experts, {number(split.computed_kl)} computed differently"
    )
