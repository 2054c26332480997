"""The formats that are folders of safetensors files, one for each layout."""

from collections.abc import Mapping

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.layouts import Layout
from gptoss_weights.formats.safetensors_writer import plan_shards, planned_output, safetensors_output
from gptoss_weights.output.pieces import Output

__all__ = ["SafetensorsFormat"]
