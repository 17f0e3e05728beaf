"""Networks of KerasHub's detectors, tiny and random."""

import keras
import keras_hub
import numpy as np


def d_fine(size=None, *, lively=False, **settings):
    """Return a D-FINE of three classes.

    Args:
        size: Sides of the images, open by default.
        lively: Whether its weights are large enough for outputs that hang on the images.
        settings: What is other than usual.
    """
    shape = (size, size, 3)
    stages = [[8, 8, 16], [16, 8, 32], [32, 16, 64], [64, 16, 64]]
    inner = keras_hub.models.HGNetV2Backbone(
        stem_channels=[3, 8, 8], embedding_size=8, depths=[1] * 4, hidden_sizes=[16, 32, 64, 64],
        stackwise_stage_filters=[[*stage, 1, 1, 3] for stage in stages], hidden_act="relu",
        apply_downsample=[False, True, True, True], use_lightweight_conv_block=[False] * 4,
        use_learnable_affine_block=True, image_shape=shape, out_features=["stage3", "stage4"],
    )  # fmt: skip
    network = keras_hub.models.DFineBackbone(inner, **{
        "decoder_in_channels": [16, 16], "encoder_hidden_dim": 16, "num_denoising": 0,
        "num_labels": 3, "hidden_dim": 16, "learn_initial_query": False, "num_queries": 10,
        "anchor_image_size": (64, 64), "feat_strides": [16, 32], "num_feature_levels": 2,
        "encoder_in_channels": [64, 64], "encode_proj_layers": [1], "num_attention_heads": 2,
        "encoder_ffn_dim": 16, "num_encoder_layers": 1, "hidden_expansion": 0.34,
        "depth_multiplier": 0.5, "eval_idx": -1, "num_decoder_layers": 1,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "decoder_n_points": [2, 2],
        "lqe_hidden_dim": 16, "num_lqe_layers": 1, "out_features": ["stage3", "stage4"],
        "image_shape": shape, **settings,
    })  # fmt: skip
    if lively:
        random = np.random.default_rng(0)
        for weight in network.trainable_variables:
            if len(weight.shape) > 1:
                spread = np.sqrt(2 / np.prod(weight.shape[:-1]))
                weight.assign(random.normal(0, spread, weight.shape))
    return network


def retina(*, norm=False, from_encoder=False, coarsest=7):
    """Return the network of a RetinaNet with its pyramid."""
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64] * 4,
        stackwise_num_blocks=[1] * 4, stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block", image_shape=(None, None, 3),
    )  # fmt: skip
    return keras_hub.models.RetinaNetBackbone(
        encoder, min_level=3, max_level=coarsest, use_p5=from_encoder, use_fpn_batch_norm=norm
    )


def retina_detector(*, norm=False, depth=1, coarsest=5, **settings):
    """Return a RetinaNet of three classes, whose outputs hang on the images."""
    made = keras_hub.models.RetinaNetObjectDetector(
        retina(coarsest=coarsest), num_classes=3, use_prediction_head_norm=norm,
        pre_logits_num_conv_layers=depth, **settings,
    )  # fmt: skip
    random = np.random.default_rng(0)
    for weight in (*made.box_head.trainable_variables,
                   *made.classification_head.trainable_variables):  # fmt: skip
        spread = 0.1 if len(weight.shape) == 1 else np.sqrt(1 / np.prod(weight.shape[:-1]))
        weight.assign(weight + random.normal(0, spread, weight.shape))
    return made


def maps_of(network, images):
    """Return what the encoder of a D-FINE puts out."""
    found = keras.tree.flatten(network.get_layer("hybrid_encoder").output)
    return keras.Model(network.input, found[: len(network.encoder_in_channels)])(images)
