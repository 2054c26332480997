"""Trains GPT-OSS in JAX."""
