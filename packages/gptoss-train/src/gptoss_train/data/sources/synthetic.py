"""Synthetic sequences: walks around a ring of tokens, each a pure function of the seed and its number."""

import numpy as np
from gptoss_weights import CheckpointError

from gptoss_train.data.config import SyntheticConfig
from gptoss_train.data.records import TokenSequence

__all__ = ["SyntheticSource"]

RING, WALK = 0, 1  # streams of random numbers below one seed


class SyntheticSource:
    """The walks; see `SyntheticConfig`.

    Args:
        config: How many, how long, and over how many tokens.
        vocabulary_size: The ring's tokens are below it.
        seed: What everything follows from.

    Raises:
        CheckpointError: the ring would have more tokens than there are.
    """

    def __init__(self, config: SyntheticConfig, *, vocabulary_size: int, seed: int) -> None:
        if config.symbols > vocabulary_size:
            raise CheckpointError(
                "the ring would have more tokens than there are",
                where="data.synthetic.symbols",
                expected=f"at most the vocabulary's {vocabulary_size}",
                found=config.symbols,
            )
        self._config, self._seed = config, seed
        ring = np.random.default_rng([seed, RING]).choice(vocabulary_size, config.symbols, replace=False)
        self.ring = ring.astype(np.int32)
        """The tokens in their order; behind the last comes the first."""

    def __len__(self) -> int:
        return self._config.records

    def digest(self) -> str:
        """Nothing: the config and the seed say all of them."""
        return ""

    def __getitem__(self, index: int) -> TokenSequence:
        random = np.random.default_rng([self._seed, WALK, index])
        length = int(random.integers(self._config.shortest, self._config.longest + 1))
        steps = random.integers(1, self._config.branching + 1, length)
        places = random.integers(len(self.ring)) + np.cumsum(steps)
        return TokenSequence(f"synthetic record {index}", self.ring[places % len(self.ring)])
