"""Writing a large output so that it appears whole or not at all, and goes on after an interruption.

`pieces` says what a format hands over, `files` puts the bytes where they belong, `staging` keeps what
is done beside the target until all of it is, and `target` moves it into place.
"""
