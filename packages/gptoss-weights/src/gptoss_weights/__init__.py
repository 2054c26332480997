"""Reads and writes GPT-OSS checkpoints, with neither JAX nor PyTorch."""
