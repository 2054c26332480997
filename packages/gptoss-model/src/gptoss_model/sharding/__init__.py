"""One model on many devices: meshes, who holds what, and what travels between devices.

Imports nothing, so that reading `--mesh` does not wait for JAX.
"""
