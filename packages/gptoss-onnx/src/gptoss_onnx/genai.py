"""genai_config.json: what onnxruntime-genai wants beside a model to run it as it is.

Its caches are its own. For a graph whose cache is in place it allocates buffers: of the window's
size on sliding layers, of `max_length` on the others. For a cache that grows it allocates what comes
out of each step, which on sliding layers is `window_size + cache_slack` rows; the slack cannot be 0, so the
W − 1 rows that such a graph keeps are written as W − 2 and 1.
"""

from collections.abc import Sequence
from typing import Any

from gptoss_weights import GptOssConfig

from gptoss_onnx.recipe import Recipe

__all__ = ["GENAI_FILE", "genai_config"]

GENAI_FILE = "genai_config.json"
LONGEST_BY_DEFAULT = 4096  # tokens; buffers are allocated for it, and a caller may ask for more
SMALLEST_WINDOW = 3


def genai_config(config: GptOssConfig, recipe: Recipe, *, eos_token_ids: Sequence[int]) -> dict[str, Any] | None:
    """The document; None for exports that onnxruntime-genai cannot run, or was never seen to."""
    if recipe.static is not None or recipe.component is not None or recipe.profile == "cuda":
        return None
    is_shared = recipe.attention == "grouped-query"
    window: dict[str, Any] = {"window_size": config.sliding_window}
    if not is_shared:
        if config.sliding_window < SMALLEST_WINDOW:
            return None
        window = {"window_size": config.sliding_window - 2, "cache_slack": 1}
    is_prepacked = recipe.profile == "portable" or not recipe.is_exact
    layers = range(config.num_hidden_layers)
    end = list(eos_token_ids) or [0]
    return {
        "model": {
            "type": "gptoss",
            "bos_token_id": _known_id(config, "bos_token_id", end[0]),
            "eos_token_id": end[0] if len(end) == 1 else end,
            "pad_token_id": _known_id(config, "pad_token_id", end[0]),
            "context_length": config.max_position_embeddings,
            "vocab_size": config.vocab_size,
            "decoder": {
                "filename": "model.onnx",
                "session_options": {
                    "log_id": "onnxruntime-genai",
                    "provider_options": [],
                    "session.disable_prepacking": "0" if is_prepacked else "1",
                    "session.set_denormal_as_zero": "0",
                },
                "head_size": config.head_dim,
                "hidden_size": config.hidden_size,
                "num_attention_heads": config.num_attention_heads,
                "num_hidden_layers": config.num_hidden_layers,
                "num_key_value_heads": config.num_key_value_heads,
                "sliding_window": {
                    **window,
                    "slide_key_value_cache": False,
                    "slide_inputs": False,
                    "layers": [layer for layer in layers if config.is_sliding(layer)],
                },
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": min(config.max_position_embeddings, LONGEST_BY_DEFAULT),
            "past_present_share_buffer": is_shared,
        },
    }


def _known_id(config: GptOssConfig, key: str, otherwise: int) -> int:
    """An id that the checkpoint's config carries along."""
    value = config.metadata.get(key)
    return value if isinstance(value, int) else otherwise
