"""Weights for a net without a trained file: random ones under which values neither vanish nor explode, written as a .caffemodel.

The shapes of the parameters come from Cortado (`cortado run NET --output`), the types of the layers from the net.
"""

import math

import numpy as np


def values(kind, index, shape, random):
    if kind == "BatchNorm":  # mean, variance and their scale factor
        drawn = [random.normal(0, 0.1, shape), random.uniform(0.5, 1.5, shape), np.ones(shape)][index]
    elif index == 1:  # biases
        drawn = random.normal(0, 0.1, shape)
    elif kind == "Scale":
        drawn = random.uniform(0.4, 0.8, shape)
    else:
        # Inner products give less, or a softmax at the end would be all ones and zeros and hide every difference.
        gain = 0.3 if kind == "InnerProduct" else 2
        drawn = random.standard_normal(shape, dtype=np.float32) * math.sqrt(gain / math.prod(shape[1:]))
    return np.ascontiguousarray(drawn, dtype=np.float32)


def draw(net, shapes, seed=1):
    """Values for all parameters: {layer: [array, ...]}; `shapes` is {layer: [shape, ...]}."""
    random = np.random.default_rng(seed)
    kinds = {layer.name: layer.type for layer in net.layer}
    return {name: [values(kinds[name], i, s, random) for i, s in enumerate(of)] for name, of in shapes.items()}


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, payload):
    """A field with a length, as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def write_caffemodel(path, net, weights):
    """Writes a NetParameter of layers with name, type and blobs (shape and packed floats), straight as bytes: lists of
    millions of Python numbers would take minutes."""
    kinds = {layer.name: layer.type for layer in net.layer}
    with open(path, "wb") as out:
        out.write(field(1, net.name.encode()))
        for name, arrays in weights.items():
            blobs = b"".join(
                field(7, field(7, field(1, b"".join(map(varint, a.shape)))) + field(5, a.astype("<f4").tobytes()))
                for a in arrays)
            out.write(field(100, field(1, name.encode()) + field(2, kinds[name].encode()) + blobs))
