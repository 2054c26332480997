"""Builds GPT-OSS as ONNX and runs it in ONNX Runtime, with neither JAX nor PyTorch."""
