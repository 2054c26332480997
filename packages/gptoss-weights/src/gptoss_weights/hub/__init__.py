"""Downloads checkpoints from the Hugging Face Hub: one layout, resumed where it stopped, verified.

from gptoss_weights.hub import download_checkpoint

plan = download_checkpoint("openai/gpt-oss-20b")  # 13.8 GB, not 41.3
open_checkpoint(plan.checkpoint)
"""

from gptoss_weights.hub.download import Progress, download_checkpoint
from gptoss_weights.hub.plan import DownloadPlan, PlannedFile

__all__ = ["DownloadPlan", "PlannedFile", "Progress", "download_checkpoint"]
