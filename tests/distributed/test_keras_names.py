"""What is used of Keras' and TensorFlow's insides is there, and does what is relied on.

`kerasft/training/replicated.py` takes the place of these. Where a test fails after an update, look
there: the name in its message is what has changed.
"""

import inspect

import keras
import pytest

from kerasft.training.replicated import update_locally


@pytest.mark.parametrize(("name", "takes"), [
    ("_backend_update_step", ["grads", "trainable_variables", "learning_rate"]),
    ("_apply_weight_decay", ["variables"]),
    ("_backend_increment_gradient_accumulators", ["grads", "acc_grads"]),
    ("_use_weight_decay", ["variable"]),
    ("_backend_reset_gradient_accumulators", []),
])
def test_the_optimizer_updates_by_these(name, takes):
    method = getattr(keras.optimizers.Optimizer, name, None)
    assert method is not None, f"Keras' optimizer has no {name} any more"
    assert list(inspect.signature(method).parameters)[1:] == takes


def test_the_optimizer_calls_them():
    source = inspect.getsource(keras.optimizers.Optimizer._backend_apply_gradients)
    for name in ("_backend_update_step", "_apply_weight_decay",
                 "_backend_increment_gradient_accumulators", "_clip_gradients"):  # fmt: skip
        assert f"self.{name}(" in source, f"Keras' optimizer does not call {name} any more"


def test_the_model_computes_and_tracks_its_loss_by_these():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(loss="mse")
    assert {"x", "y", "y_pred", "sample_weight", "training"} <= set(
        inspect.signature(model._compute_loss).parameters
    )
    assert isinstance(model._loss_tracker, keras.metrics.Mean)
    assert list(inspect.signature(model.compute_metrics).parameters)[:3] == ["x", "y", "y_pred"]


def test_losses_and_penalties_are_divided_by_the_number_of_replicas():
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
    from keras.src.losses import loss

    assert "num_replicas_in_sync" in inspect.getsource(loss.scale_loss_for_distribution)
    assert "scale_loss_for_distribution" in inspect.getsource(loss.Loss.__call__) or (
        "scale_loss_for_distribution" in inspect.getsource(loss.reduce_values)
    )
    source = inspect.getsource(TensorFlowTrainer._aggregate_additional_loss)
    assert "scale_loss_for_distribution" in source


def test_what_layers_add_to_the_loss_can_be_taken_out_of_them():
    class Adds(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x))
            return x

    layer = Adds()
    model = keras.Sequential([keras.Input([2]), layer, keras.layers.Dense(1)])
    model(keras.ops.ones([3, 2]))
    assert [float(one) for one in layer._get_own_losses()] == [1.0]
    model._clear_losses()
    assert model.losses == []


def test_a_strategy_asks_for_signs_of_life_by_this():
    from tensorflow.python.distribute import collective_all_reduce_strategy
    from tensorflow.python.eager.context import Context

    takes = inspect.signature(Context.configure_coordination_service).parameters
    assert "heartbeat_timeout_in_ms" in takes
    source = inspect.getsource(collective_all_reduce_strategy)
    assert "context.context().configure_coordination_service(" in source
    assert "heartbeat_timeout_in_ms" not in source


def test_batch_normalization_can_be_synchronized():
    assert keras.layers.BatchNormalization().synchronized is False
    source = inspect.getsource(keras.layers.BatchNormalization)
    assert "synchronized=self.synchronized" in source


def test_variables_are_written_by_each_replica_for_itself():
    layer = keras.layers.Dense(1)
    layer.build([None, 2])
    optimizer = keras.optimizers.Adam()
    optimizer.build(layer.trainable_variables)
    for variable in (layer.kernel, optimizer._momentums[0], keras.layers.Dropout(0.5)
                     .seed_generator.state):  # fmt: skip
        assert variable.aggregation == "none"


def test_on_one_device_the_optimizer_is_left_alone():
    from kerasft.distributed.group import ALONE

    optimizer = keras.optimizers.SGD()
    update_locally(optimizer, ALONE)
    assert "_backend_update_step" not in vars(optimizer)
