"""An InceptionV3 is found in a Keras model by its links alone. No Keras here: configurations are plain data."""

import copy
import dataclasses

import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP

from inception.variants import KERAS, Variant
from inception.weights import UnsupportedFeature
from inception.weights.dialects import keras_config, keras_graph

NET = "functional"  # the name of a model that another one contains


def found(config):
    return keras_graph.network(keras_graph.of_config(config), "x")


def named(config):
    return {layer["name"]: layer for layer in config["config"]["layers"]}


def layer(name, kind, *inputs, **arguments):
    nodes = [[[[source, 0, 0, {}] for source in inputs]]] if inputs else [[]]  # as Keras 2 writes them
    return {"class_name": kind, "name": name, "config": {"name": name, **arguments}, "inbound_nodes": nodes[0]}


def model(name, layers, start, end):
    config = {"name": name, "layers": layers, "input_layers": [[start, 0, 0]], "output_layers": [[end, 0, 0]]}
    return {"class_name": "Functional", "name": name, "config": config, "inbound_nodes": []}


def inside(config, source, name=NET):
    """A model as a layer that reads another one."""
    nested = copy.deepcopy(config)
    nested["name"] = nested["config"]["name"] = name
    nested["inbound_nodes"] = [[[source, 0, 0, {}]]]
    return nested


VARIANTS = [
    dataclasses.replace(variant, border=border, last_pool=last_pool, gamma=gamma, epsilon=epsilon)
    for variant, border, last_pool, gamma, epsilon in [
        (NARROW, "exclude", "avg", False, 1e-3),
        (NARROW, "exclude", "max", True, 1e-5),
        (NARROW_NOTOP, "include", "avg", False, 0.0),
        (NARROW_AUX, "include", "max", True, 1e-3),
        (KERAS, "include", "avg", False, 0.01),
    ]
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_and_its_rules(variant):
    network = found(keras_config.config(variant))
    expected = Variant(border=variant.border, last_pool=variant.last_pool, gamma=variant.gamma, epsilon=variant.epsilon)
    assert network.like == expected and network.before == network.notes == ()
    kinds = ("conv2d_", "batch_normalization_", "predictions", "aux_predictions")
    weighted = [name for name in named(keras_config.config(variant)) if name.startswith(kinds)]
    assert network.layers == {name: name for name in weighted}


def test_names_mean_nothing():
    config = keras_config.config(NARROW)
    new = {name: f"layer {i}" for i, name in enumerate(named(config))}

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(each) for key, each in value.items()}
        return [renamed(each) for each in value] if isinstance(value, list | tuple) else new.get(value, value)

    assert found(renamed(config)).layers == {new[name]: name for name in found(config).layers}


def test_layers_of_the_users_own_are_not_the_networks():
    """A padding and a maximum pool in front and behind, and dropout within."""
    config = keras_config.config(NARROW_NOTOP)
    layers = named(config)
    own = [layer("pad", "ZeroPadding2D", "input_1", padding=((1, 1), (1, 1))),
           layer("pool", "MaxPooling2D", "pad", pool_size=(2, 2), strides=(2, 2), padding="valid")]  # fmt: skip
    layers["conv2d_1"]["inbound_nodes"] = layer("", "", "pool")["inbound_nodes"]
    layers["mixed5"]["config"]["name"] = layers["mixed5"]["name"] = "joined"
    behind = [layer("mixed5", "Dropout", "joined"), layer("last", "MaxPooling2D", "mixed10", padding="valid")]
    config["config"]["layers"] += own + behind
    network = found(config)
    assert network.like == KERAS
    assert network.before == ("pad", "pool")
    assert network.notes == ("the model has layers of its own before the network: pad, pool",)


@pytest.mark.parametrize("dropout", [False, True])
def test_a_dense_on_the_pooled_features_is_the_classifier_of_a_network_within_a_model(dropout):
    base = inside(keras_config.config(NARROW_NOTOP), "scaled")
    layers = [layer("image", "InputLayer"), layer("scaled", "Rescaling", "image"), base,
              layer("pooled", "GlobalAveragePooling2D", NET), layer("dropped", "Dropout", "pooled"),
              layer("mine", "Dense", "dropped" if dropout else "pooled", activation="sigmoid")]  # fmt: skip
    outer = model("outer", layers, "image", "mine")
    network = found(outer)
    assert network.name == NET and network.layers["mine"] == "predictions"
    assert network.layers[f"{NET}/conv2d_5"] == "conv2d_5" and network.before == ("scaled",)
    assert network.notes[0] == "the classifier's activation is sigmoid; Predictions are the softmax of its logits"


def heads(*layers):
    config = keras_config.config(NARROW_NOTOP)
    config["config"]["layers"] += layers
    return [path for path, ours in found(config).layers.items() if ours == "predictions"]


def test_what_is_no_classifier():
    pool = layer("pooled", "GlobalAveragePooling2D", "mixed10")
    mine = layer("mine", "Dense", "pooled")
    assert heads(pool, mine) == heads(pool, mine, layer("softmax", "Activation", "mine")) == ["mine"]
    assert heads(pool, mine, layer("second", "Dense", "mine")) == []
    assert heads(pool, mine, layer("second", "Dense", "pooled")) == []
    assert heads(pool, mine, layer("predictions", "Dense", "pooled")) == ["predictions"]
    assert heads(pool, layer("normal", "LayerNormalization", "pooled"), layer("mine", "Dense", "normal")) == []
    assert heads(layer("pooled", "GlobalMaxPooling2D", "mixed10"), mine) == []
    assert heads(layer("pooled", "GlobalAveragePooling2D", "mixed9"), mine) == []
    assert heads(pool, layer("mine", "Dense", "pooled", use_bias=False)) == []


def test_two_networks_are_refused_by_name():
    config = keras_config.config(NARROW_NOTOP)
    layers = [layer("image", "InputLayer"), inside(config, "image", "one"), inside(config, "image", "other")]
    with pytest.raises(UnsupportedFeature, match=r"^x holds 2 InceptionV3 \(one and other\); save each by itself"):
        found(model("outer", [*layers, layer("sum", "Add", "one", "other")], "image", "sum"))


def argument(name, **arguments):
    return lambda layers: layers[name]["config"].update(arguments)


def norms(**arguments):
    def change(layers):
        for each in layers.values():
            if each["class_name"] == "BatchNormalization":
                each["config"].update(arguments)

    return change


REFUSED = {
    "one epsilon": (argument("batch_normalization_7", epsilon=1e-5), r"has epsilon=0\.001, .* has epsilon=1e-05; expe"),
    "one scale": (argument("batch_normalization_7", scale=True), "batch_normalization_7 has scale=True"),
    "one center": (argument("batch_normalization_7", center=False), "batch_normalization_7 has center=False"),
    "no center": (norms(center=False), "has center=False; InceptionV3's batch norms have a beta"),
    "epsilon of text": (norms(epsilon="small"), "has an epsilon that is no number"),
    "epsilon below 0": (norms(epsilon=-1.0), "has an epsilon that is no number"),
    "stride": (argument("conv2d_1", strides=[1, 1]), r"conv2d_1 has strides=\[1, 1\]; InceptionV3 has \(2, 2\) there"),
    "padding": (argument("conv2d_9", padding="valid"), "conv2d_9 has padding=valid; InceptionV3 has same there"),
    "dilation": (argument("conv2d_9", dilation_rate=[2, 2]), r"conv2d_9 has dilation_rate=\[2, 2\]"),
    "inner activation": (argument("conv2d_9", activation="relu"), "conv2d_9 has activation=relu"),
    "activation": (argument("activation_9", activation="gelu"), "activation_9 has activation=gelu"),
    "pool": (argument("max_pooling2d_2", pool_size=[2, 2]), r"max_pooling2d_2 has pool_size=\[2, 2\]"),
    "average": (argument("average_pooling2d_3", padding="valid"), "average_pooling2d_3 has padding=valid"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_a_layer_that_computes_otherwise_is_refused_by_name(change, words):
    config = copy.deepcopy(keras_config.config(NARROW))
    change(named(config))
    with pytest.raises(UnsupportedFeature, match=words):
        found(config)


def test_pools_that_differ_in_their_border_are_refused_by_name():
    config = copy.deepcopy(keras_config.config(dataclasses.replace(NARROW, border="include")))
    pool = named(config)["average_pooling2d_2"]
    pool["inbound_nodes"] = layer("", "", "mixed0")["inbound_nodes"]
    pool["config"]["padding"] = "same"
    with pytest.raises(UnsupportedFeature, match=r"average_pooling2d_2 has a zero padding before it=False"):
        found(config)


def test_a_ring_of_layers_ends():
    config = copy.deepcopy(keras_config.config(NARROW_NOTOP))
    ring = [layer("one", "Dropout", "other"), layer("other", "Dropout", "one")]
    config["config"]["layers"] += [*ring, layer("pooled", "GlobalAveragePooling2D", "mixed10"),
                                   layer("drop", "Dropout", "pooled", "drop")]  # fmt: skip
    assert found(config).like == KERAS
    named(config)["conv2d_30"]["inbound_nodes"] = layer("", "", "one")["inbound_nodes"]
    assert found(config) is None


def test_other_links_are_another_network():
    config = copy.deepcopy(keras_config.config(NARROW))
    named(config)["conv2d_30"]["inbound_nodes"] = layer("", "", "mixed2")["inbound_nodes"]
    assert found(config) is None
