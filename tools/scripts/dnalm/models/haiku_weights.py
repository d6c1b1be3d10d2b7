"""Weights under the parameter paths of Haiku, in which SegmentEnformer and SegmentBorzoi are published.

A path is `params/<module>/<name>` or `state/<module>/<name>`. Layouts: Linear (in, out), convolutions (width, in, out),
depthwise ones (width, 1, channels), transposed ones (width, out, in) and not mirrored; batch norms (1, channels, 1), of
which inference uses the state's `average` and neither `hidden` nor `counter`.
"""

import re
from collections.abc import Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str]]
UNUSED = r"^state/.*/(hidden|counter)$"
PATH = re.compile(r"^(params|state)/")

HEAD: Rules = (
    (r"^params/u_net_head/~/fc/", "fc."),
    (
        r"^params/u_net_head/~/unet1_d_segmentation_head/~/downsample_block_(\d+)/~/conv",
        r"unet._downsample_blocks.\1.conv_layers.",
    ),
    (
        r"^params/u_net_head/~/unet1_d_segmentation_head/~/upsample_block_(\d+)/~/conv_transpose",
        r"unet._upsample_blocks.\1.conv_layers.",
    ),
    (r"^params/u_net_head/~/unet1_d_segmentation_head/~/final_conv1_d/~/conv", "unet.final_block.conv_layers."),
)
LEAVES: Rules = (
    (r"/~/mean_ema/average$", ".running_mean"),
    (r"/~/var_ema/average$", ".running_var"),
    (r"[/.](w|scale)$", ".weight"),
    (r"[/.](b|offset)$", ".bias"),
    (r"/", "."),
)
TRANSFORMER: Rules = (
    (r"~_transformer_attention/layer_(\d+)/attn_layer_norm/", r"transformer.\1.attention.norm/"),
    (r"~_transformer_attention/layer_(\d+)/attention/", r"transformer.\1.attention/"),
    (r"/~/attn_q/", "/query/"),
    (r"/~/attn_k/", "/key/"),
    (r"/~/attn_v/", "/value/"),
    (r"/~/attn_o/", "/output/"),
    (r"/~/attn_to_rel_k/", "/relative_key/"),
    (r"/rel_content_bias$", "/content_bias"),
    (r"/rel_pos_bias$", "/position_bias"),
    (r"~_transformer_ffn_block/layer_(\d+)/ffn_layer_norm/", r"transformer.\1.feed_forward.norm/"),
    (r"~_transformer_ffn_block/layer_(\d+)/ffn_1/", r"transformer.\1.feed_forward.expand/"),
    (r"~_transformer_ffn_block/layer_(\d+)/ffn_2/", r"transformer.\1.feed_forward.contract/"),
)


def renamed(name: str, trunk: Rules) -> str:
    """Return a module's name of a path; what no rule knows keeps a part of its path, and is then named as unknown."""
    if not PATH.match(name):
        return name
    for pattern, replacement in (*HEAD, *trunk, *TRANSFORMER, *LEAVES):
        name = re.sub(pattern, replacement, name)
    return name


def arranged(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of a path in torch's layout."""
    if not PATH.match(name):
        return tensor
    if name.endswith("/w"):
        turned = tensor.permute(*reversed(range(tensor.ndim)))
        # torch's transposed convolution mirrors its weights, Haiku's does not.
        return turned.flip(-1) if "/conv_transpose" in name else turned
    if name.endswith(("_bias",)):
        return tensor
    return tensor.reshape(-1)
