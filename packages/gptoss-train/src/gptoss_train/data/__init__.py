"""Data: records from files, tables and rules, as batches that resume exactly.

dataset = open_dataset(DataConfig(source="jsonl", files=("train.jsonl",)), vocabulary_size=…, tokenizer=…, …)
batches = iter(dataset)
batch = next(batches)
state = batches.get_state()                          # JSON values; set_state goes there again
"""

from gptoss_train.data.config import (
    ColumnsConfig,
    ConversationConfig,
    DataConfig,
    HuggingFaceConfig,
    SyntheticConfig,
)
from gptoss_train.data.opening import open_dataset
from gptoss_train.data.samples import Sample, SampleSpan
from gptoss_train.data.statistics import DataStatistics

__all__ = [
    "ColumnsConfig",
    "ConversationConfig",
    "DataConfig",
    "DataStatistics",
    "HuggingFaceConfig",
    "Sample",
    "SampleSpan",
    "SyntheticConfig",
    "open_dataset",
]
