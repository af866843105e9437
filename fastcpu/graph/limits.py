"""Sizes that the format and the kernels are made for. The C++ reader refuses whatever exceeds them."""

from __future__ import annotations

MAX_CHANNELS = 1 << 20
"""Of a value."""
MAX_COLUMNS = 32768
"""Of a matrix: no sum of as many u8 x s8 products can overflow s32 (docs/numerics.md, section 1)."""
MAX_WEIGHT_ELEMENTS = 2**31 - 1
MAX_DIMENSIONS = 4
"""Of a tensor."""

BLOCK_HEIGHT = 4
"""Consecutive output channels of a block; its width is one input channel."""
MAX_BLOCK_COLUMNS = 65535
"""The block encoding stores input channels as u16."""

MAX_TABLES = 4
"""Of an embedding."""
MAX_HEADS = 1024
MAX_HEAD_DIM = 4096
MAX_U8_HEAD_DIM = 256
U8_HEAD_DIM_UNIT = 4
"""u8 attention takes multiples of it."""
