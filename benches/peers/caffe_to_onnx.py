"""A net for inference as ONNX, from its prototxt and weights: the layers of AlexNet, GoogLeNet and ResNet-50.

Layer by layer, as they stand: ONNX Runtime folds and fuses by itself.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def pair(values, high, wide, default):
    """A size of two axes, from a repeated field or from its two named ones."""
    if high or wide:
        return [high, wide]
    values = list(values) or [default]
    return values if len(values) == 2 else values * 2


def convert(net, weights):
    """An ONNX model of `net` (a NetParameter) with `weights` ({layer: [array, ...]})."""
    nodes, constants, current = [], [], {}
    batch = "N"  # any batch

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(kind, layer, inputs, **attributes):
        out = f"{layer.name}_out{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [out], name=f"{layer.name}_{kind}", **attributes))
        return out

    graph_input = None
    for layer in net.layer:
        kind, params = layer.type, weights.get(layer.name, [])
        x = [current[b] for b in layer.bottom]
        named = [constant(f"{layer.name}_{i}", p) for i, p in enumerate(params)]
        if kind == "Input":
            dims = list(layer.input_param.shape[0].dim)
            graph_input = helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, *dims[1:]])
            y = "data"
        elif kind == "Convolution":
            p = layer.convolution_param
            pads = pair(p.pad, p.pad_h, p.pad_w, 0)
            y = add("Conv", layer, x + named, group=p.group, pads=pads * 2,
                    kernel_shape=list(params[0].shape[2:]), strides=pair(p.stride, p.stride_h, p.stride_w, 1),
                    dilations=pair(p.dilation, 0, 0, 1))
        elif kind == "InnerProduct":
            y = add("Gemm", layer, [add("Flatten", layer, x)] + named, transB=1)
        elif kind == "Pooling":
            p = layer.pooling_param
            name = "AveragePool" if p.pool == p.AVE else "MaxPool"
            if p.global_pooling:
                y = add("Global" + name, layer, x)
            else:
                more = {"count_include_pad": 1} if p.pool == p.AVE else {}
                size = pair([], p.kernel_h, p.kernel_w, p.kernel_size)
                y = add(name, layer, x, kernel_shape=size, strides=pair([], p.stride_h, p.stride_w, p.stride),
                        pads=pair([], p.pad_h, p.pad_w, p.pad) * 2, ceil_mode=1, **more)
        elif kind == "LRN":
            p = layer.lrn_param
            y = add("LRN", layer, x, size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)
        elif kind == "BatchNorm":
            factor = 1 / params[2][0] if params[2][0] else 0
            channels = params[0].shape[0]
            statistics = [constant(f"{layer.name}_{what}", values.astype(np.float32)) for what, values in [
                ("one", np.ones(channels)), ("zero", np.zeros(channels)),
                ("mean", params[0] * factor), ("variance", params[1] * factor)]]
            y = add("BatchNormalization", layer, x + statistics, epsilon=layer.batch_norm_param.eps)
        elif kind == "Scale":
            for p in params:
                constant(f"{layer.name}_{len(constants)}c", p.reshape(-1, 1, 1))
            added = [c.name for c in constants[-len(params):]]
            y = add("Mul", layer, [x[0], added[0]])
            y = add("Add", layer, [y, added[1]]) if len(added) > 1 else y
        elif kind == "Eltwise" and layer.eltwise_param.operation == layer.eltwise_param.SUM:
            y = add("Add", layer, x)
        elif kind == "Concat":
            y = add("Concat", layer, x, axis=1)
        elif kind == "ReLU":
            y = add("Relu", layer, x)
        elif kind == "Softmax":
            y = add("Softmax", layer, x, axis=1)
        elif kind == "Dropout":
            y = x[0]
        else:
            raise SystemExit(f"no ONNX twin for layer {layer.name} of type {kind}")
        for top in layer.top:
            current[top] = y
    used = {name for node in nodes for name in node.input}
    output = helper.make_tensor_value_info(y, TensorProto.FLOAT, [batch, "C"])
    graph = helper.make_graph(nodes, net.name or "net", [graph_input], [output],
                              [c for c in constants if c.name in used])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
