"""The official MXFP4 decode and ours agree bit for bit, for every byte under every scale."""

import numpy as np
import pytest
from gptoss_weights import decode_mxfp4

pytestmark = pytest.mark.oracle

LARGEST_EXACT_SCALE = 252  # above, 2^(scale − 127) times a code overflows (SPEC, MXFP4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_byte_under_every_scale(dtype):
    import torch
    from gpt_oss.torch.weights import Checkpoint

    scales = np.repeat(np.arange(LARGEST_EXACT_SCALE + 1, dtype=np.uint8)[:, None], 16, axis=1)
    blocks = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16), (len(scales), 1, 1))

    class InMemory(Checkpoint):
        def __init__(self):
            self.tensors = {"blocks": blocks, "scales": scales}
            self.tensor_name_to_file = dict.fromkeys(self.tensors)

        def _get_tensor(self, name):
            return torch.from_numpy(self.tensors[name])

    torch_dtype, bits = {"bfloat16": (torch.bfloat16, np.uint16), "float32": (torch.float32, np.uint32)}[dtype]
    official = InMemory()._get_mxfp4_tensor("blocks", "scales", dtype=torch_dtype)
    official_bits = official.view({2: torch.int16, 4: torch.int32}[torch_dtype.itemsize]).numpy().view(bits)
    ours = decode_mxfp4(blocks, scales, dtype=dtype)
    np.testing.assert_array_equal(ours.view(bits), official_bits)
