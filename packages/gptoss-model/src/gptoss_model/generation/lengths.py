"""The lengths that programs are compiled for: few of them, or just the ones that a server fixes."""

__all__ = ["LARGEST_PIECE", "bucket_length"]

SMALLEST_BUCKET = 16  # tokens
LARGEST_PIECE = 512  # tokens of a prompt in one step; bounds attention's scores to N · 512 · S numbers a sequence


def bucket_length(length: int) -> int:
    """The length to pad to: the next power of two from 16 to 512, then the next multiple of 512.

    So lengths up to n tokens compile at most 6 + n / 512 times.
    """
    if length > LARGEST_PIECE:
        return -(-length // LARGEST_PIECE) * LARGEST_PIECE
    return max(1 << (length - 1).bit_length(), SMALLEST_BUCKET)
