"""Measures one GPT-OSS implementation against another."""
