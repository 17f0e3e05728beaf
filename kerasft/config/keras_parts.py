"""What of Keras and KerasHub a config may call: a list of what was looked at, not a pattern.

A name is on the list when its class or function only computes: it writes, removes and reads no
file, reaches no network, and runs no code that it is given as text or bytes. What a later Keras
brings is refused until it was looked at; a test compares the list with the installed packages.
"""

from __future__ import annotations

# By module, with all that may be called. Those of `kerasft.config.write_paths.WRITING` write, but
# only below the run folder.
ALLOWED: dict[str, frozenset[str]] = {
    module: frozenset(names.split()) for module, names in {
        "keras.callbacks": """
            CSVLogger Callback EarlyStopping History LearningRateScheduler ModelCheckpoint
            ProgbarLogger ReduceLROnPlateau SwapEMAWeights TensorBoard TerminateOnNaN
        """,
        "keras.constraints": """
            Constraint MaxNorm MinMaxNorm NonNeg UnitNorm max_norm min_max_norm non_neg unit_norm
        """,
        "keras.initializers": """
            Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer
            Initializer LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal
            RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros constant
            glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal lecun_uniform
            ones orthogonal random_normal random_uniform stft truncated_normal variance_scaling
            zeros
        """,
        "keras.layers": """
            Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
            AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
            Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average
            AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
            BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
            ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
            Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
            Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D
            Convolution3DTranspose Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D
            DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization
            Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
            GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
            GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
            GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention
            HashedCrossing Hashing Identity Input InputLayer InputSpec LSTM LSTMCell Layer
            LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D
            MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp
            MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN
            RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
            RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
            RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
            RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
            RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
            STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D
            SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
            SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract
            TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper
            ZeroPadding1D ZeroPadding2D ZeroPadding3D add average concatenate dot maximum minimum
            multiply subtract
        """,
        "keras.losses": """
            BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy
            CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
            CosineSimilarity Dice Hinge Huber KLDivergence LogCosh Loss MeanAbsoluteError
            MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
            SparseCategoricalCrossentropy SquaredHinge Tversky binary_crossentropy
            binary_focal_crossentropy categorical_crossentropy categorical_focal_crossentropy
            categorical_generalized_cross_entropy categorical_hinge circle cosine_similarity ctc
            dice hinge huber kl_divergence log_cosh mean_absolute_error
            mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
            poisson sparse_categorical_crossentropy squared_hinge tversky
        """,
        "keras.metrics": """
            AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy
            CategoricalCrossentropy CategoricalHinge ConcordanceCorrelation CosineSimilarity
            F1Score FBetaScore FalseNegatives FalsePositives Hinge IoU KLDivergence LogCoshError
            Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
            MeanSquaredError MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU
            PearsonCorrelation Poisson Precision PrecisionAtRecall R2Score Recall RecallAtPrecision
            RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy
            SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity
            SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives binary_accuracy
            binary_crossentropy binary_focal_crossentropy categorical_accuracy
            categorical_crossentropy categorical_focal_crossentropy categorical_hinge
            concordance_correlation hinge huber kl_divergence log_cosh mean_absolute_error
            mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
            pearson_correlation poisson sparse_categorical_accuracy sparse_categorical_crossentropy
            sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
        """,
        "keras.optimizers": """
            Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer
            MultiOptimizer Muon Nadam Optimizer OptimizerMap RMSprop SGD ScheduleFreeAdamW
        """,
        "keras.optimizers.schedules": """
            CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule
            PiecewiseConstantDecay PolynomialDecay
        """,
        "keras.random": """
            SeedGenerator beta binomial categorical dropout gamma normal randint shuffle
            truncated_normal uniform
        """,
        "keras.regularizers": """
            L1 L1L2 L2 OrthogonalRegularizer Regularizer l1 l1_l2 l2 orthogonal_regularizer
        """,
        "keras_hub.layers": """
            AlibiBias AnchorGenerator AudioConverter BASNetImageConverter BLIP2ImageConverter
            BoxMatcher CLIPImageConverter CSPNetImageConverter CachedMultiHeadAttention
            DFineImageConverter DINOV2ImageConverter DINOV3ImageConverter DeepLabV3ImageConverter
            DeiTImageConverter DenseNetImageConverter DepthAnythingImageConverter
            EfficientNetImageConverter FNetEncoder Gemma3ImageConverter Gemma3nAudioConverter
            Gemma3nImageConverter Gemma4AudioConverter Gemma4ImageConverter Gemma4VideoConverter
            HGNetV2ImageConverter ImageConverter MaskedLMHead MaskedLMMaskGenerator
            MetaCLIP2ImageConverter MiTImageConverter MobileNetImageConverter
            MobileNetV5ImageConverter MoonshineAudioConverter MultiSegmentPacker NonMaxSuppression
            PARSeqImageConverter PaliGemmaImageConverter PositionEmbedding Qwen3_5ImageConverter
            Qwen3_5VideoConverter RMSNormalization RandomDeletion RandomSwap ResNetImageConverter
            RetinaNetImageConverter ReversibleEmbedding RotaryEmbedding SAM3DetrDecoder
            SAM3DetrEncoder SAM3GeometryEncoder SAM3ImageConverter SAM3MaskDecoder SAM3TextEncoder
            SAM3VisionEncoder SAMImageConverter SAMMaskDecoder SAMPromptEncoder
            SegFormerImageConverter SigLIPImageConverter SinePositionEncoding StartEndPacker
            SwinTransformerImageConverter T5Gemma2ImageConverter TokenAndPositionEmbedding
            TransformerDecoder TransformerEncoder VGGImageConverter ViTImageConverter
            VideoConverter VideoPrismImageConverter WhisperAudioConverter XceptionImageConverter
        """,
        "keras_hub.metrics": """
            Bleu EditDistance Perplexity RougeL RougeN
        """,
        "keras_hub.samplers": """
            BeamSampler ContrastiveSampler GreedySampler RandomSampler Sampler SpeculativeSampler
            TopKSampler TopPSampler
        """,
    }.items()
}

# What was looked at and is not for configs, and why.
REFUSED: dict[str, str] = {
    "keras.callbacks.BackupAndRestore": "it removes the folder that it is given",
    "keras.callbacks.CallbackList": "it holds further callbacks; name each of them by itself",
    "keras.callbacks.LambdaCallback": "it runs arbitrary Python code",
    "keras.callbacks.OrbaxCheckpoint": "it writes folders and removes old ones",
    "keras.callbacks.RemoteMonitor": "it sends logs over the network",
    "keras.layers.FlaxLayer": "it runs arbitrary modules",
    "keras.layers.IntegerLookup": "its vocabulary may name any file, which it reads",
    "keras.layers.JaxLayer": "it runs arbitrary functions",
    "keras.layers.Lambda": "it runs arbitrary Python code",
    "keras.layers.StringLookup": "its vocabulary may name any file, which it reads",
    "keras.layers.TFSMLayer": "it runs an arbitrary graph",
    "keras.layers.TextVectorization": "its vocabulary may name any file, which it reads",
    "keras.layers.TorchModuleWrapper": "it runs arbitrary modules",
}
# The same in every module.
REFUSED_NAMES: dict[str, str] = {
    "deserialize": "it builds whatever it is told to",
    "get": "it builds whatever it is told to",
    "serialize": "it is no part: it turns one into plain values",
    "legacy": "it is of an older Keras",
}
