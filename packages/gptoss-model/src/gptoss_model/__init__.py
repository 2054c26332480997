"""Runs GPT-OSS in JAX: Flax NNX modules over pure functions."""
