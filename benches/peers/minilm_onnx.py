"""all-MiniLM-L6-v2 as an ONNX graph, built from its safetensors file with the operators that ONNX Runtime and
OpenVINO fuse, so that no training framework is needed to measure them."""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def add(self, operator, inputs, **attributes):
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name


def build(folder):
    """The model: input_ids and attention_mask (batch × length, int64) to normalised mean vectors (batch × width)."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = width // heads
    epsilon = config["layer_norm_eps"]
    g = Graph()

    def weight(name, transposed=False):
        value = weights[name].T if transposed else weights[name]
        return g.constant(name, value)

    def dense(x, name):
        product = g.add("MatMul", [x, weight(f"{name}.weight", True)])
        return g.add("Add", [product, weight(f"{name}.bias")])

    def norm(x, name):
        return g.add("LayerNormalization", [x, weight(f"{name}.weight"), weight(f"{name}.bias")], axis=-1, epsilon=epsilon)

    length = g.add("Shape", ["input_ids"], start=1, end=2)
    words = g.add("Gather", [weight("embeddings.word_embeddings.weight"), "input_ids"])
    start, axis = g.constant("start", np.array([0], np.int64)), g.constant("row_axis", np.array([0], np.int64))
    places = g.add("Slice", [weight("embeddings.position_embeddings.weight"), start, length, axis])
    kind = g.constant("type", weights["embeddings.token_type_embeddings.weight"][0])
    x = norm(g.add("Add", [g.add("Add", [words, kind]), places]), "embeddings.LayerNorm")

    mask = g.add("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    seen = g.add("Unsqueeze", [mask, g.constant("mask_axes", np.array([1, 2], np.int64))])
    hidden = g.add("Sub", [g.constant("unit", np.float32(1)), seen])
    hidden = g.add("Mul", [hidden, g.constant("low", np.float32(-1e4))])
    split = g.constant("split", np.array([0, 0, heads, head], np.int64))
    join = g.constant("join", np.array([0, 0, width], np.int64))
    scale = g.constant("scale", np.float32(head**0.5))
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"

        def part(name, permutation):
            y = g.add("Reshape", [dense(x, f"{at}.attention.self.{name}"), split])
            return g.add("Transpose", [y], perm=permutation)

        query, key, value = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
        scores = g.add("Add", [g.add("Div", [g.add("MatMul", [query, key]), scale]), hidden])
        context = g.add("MatMul", [g.add("Softmax", [scores], axis=-1), value])
        context = g.add("Reshape", [g.add("Transpose", [context], perm=[0, 2, 1, 3]), join])
        x = norm(g.add("Add", [dense(context, f"{at}.attention.output.dense"), x]), f"{at}.attention.output.LayerNorm")
        wide = g.add("Gelu", [dense(x, f"{at}.intermediate.dense")])
        x = norm(g.add("Add", [dense(wide, f"{at}.output.dense"), x]), f"{at}.output.LayerNorm")

    column = g.add("Unsqueeze", [mask, g.constant("column_axes", np.array([2], np.int64))])
    axis = g.constant("token_axis", np.array([1], np.int64))
    total = g.add("ReduceSum", [g.add("Mul", [x, column]), axis], keepdims=0)
    mean = g.add("Div", [total, g.add("ReduceSum", [column, axis], keepdims=0)])
    g.nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=-1, p=2))
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(g.nodes, "minilm", ids, [out], list(g.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model
