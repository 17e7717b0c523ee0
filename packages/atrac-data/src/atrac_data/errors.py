"""What can be wrong with recordings, manifests and shards."""

from __future__ import annotations

from atrac_bitstream import AtracError


class DataError(AtracError):
    """A folder of recordings, a manifest or a shard is not as it should be."""
