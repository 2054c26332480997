"""What the figures draw; how they look is for eyes."""

import re

import numpy as np
from gptoss_parity import compare
from gptoss_parity.report.plots import error_by_position, kl_by_position


def test_tokens_that_are_exactly_alike_keep_their_place(trace, edited):
    def last_token(arrays):
        arrays["logits"][-1] += np.linspace(0, 1e-3, arrays["logits"].shape[-1], dtype=np.float32)

    comparison = compare(trace, edited(last_token))
    for figure in (error_by_position, kl_by_position):
        labels = re.findall(r">(\d+)</text>", figure(comparison, "p"))
        assert "0" in labels, "the axis begins at the first token though it has no point on a log scale"
