"""Texts per second of all-MiniLM-L6-v2: pg_answer, ONNX Runtime and OpenVINO side by side, and how near each is to
the reference vectors.

    python benches/peers/encoder.py PROGRAM MODEL_FOLDER FIXTURES
    python benches/peers/encoder.py MODEL_FOLDER

`make bench-inference` calls both. The second prints a name, and for each text of its input how often a second ONNX
Runtime's 8-bit model embeds it. PROGRAM is the built bench encoder_rates; MODEL_FOLDER holds model.safetensors,
config.json and tokenizer.json; FIXTURES is tests/fixtures. Needs numpy, onnx, safetensors, tokenizers, and whichever of
onnxruntime and openvino is to be measured. Short texts are questions, passages are abstracts. Texts of a batch have
similar lengths, as sentence-transformers sorts them, so that the peers pad little. All rates are from text to vector,
tokenising included; the median of the rounds counts.
"""

import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import tokenizers

from minilm_onnx import build

THREADS, ROUNDS, TEXTS = 2, 7, 480
ONE = "Vacuum reclaims storage occupied by dead tuples."


def rate(run):
    """Calls per second of run, which is called for at least half a second."""
    run()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.5:
        run()
        calls += 1
    return calls / (time.perf_counter() - start)


def peers(folder):
    """Name → function from the inputs of a batch to its vectors, of each peer that is installed."""
    f32, int8 = str(folder / "f32.onnx"), str(folder / "int8.onnx")
    found = {}
    try:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(f32, int8, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 3
        for name, path in (("f32", f32), ("int8 (dynamic)", int8)):
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found[f"ONNX Runtime {onnxruntime.__version__} {name}"] = lambda x, s=session: s.run(None, x)[0]
    except ImportError:
        print("onnxruntime is not installed")
    try:
        import openvino

        version = openvino.__version__.split("-")[0]
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": precision}
            model = openvino.Core().compile_model(f32, "CPU", settings)
            request, output = model.create_infer_request(), model.output(0)
            found[f"OpenVINO {version} {precision}"] = lambda x, r=request, o=output: r.infer(x)[o]
    except ImportError:
        print("openvino is not installed")
    return found


def tokenizer_of(model):
    """The model's tokenizer, and a function from texts to a padded batch of inputs."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()

    def inputs(texts):
        tokenizer.enable_padding()
        batch = tokenizer.encode_batch(texts)
        pick = lambda field: np.array([getattr(text, field) for text in batch], dtype=np.int64)
        return {"input_ids": pick("ids"), "attention_mask": pick("attention_mask")}

    return tokenizer, inputs


def one_by_one(model):
    _, inputs = tokenizer_of(model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        onnx.save(build(model), folder / "f32.onnx")
        name, run = next((name, run) for name, run in peers(folder).items() if "int8" in name)
        print(name, flush=True)
        for text in sys.stdin:
            print(rate(lambda: run(inputs([text.strip()]))), flush=True)


def beside_ours(program, model, fixtures):
    tokenizer, inputs = tokenizer_of(model)

    def read(name):
        with gzip.open(fixtures / "retrieval" / name, "rt", encoding="utf-8") as file:
            return [json.loads(line)["text"] for line in file]

    length = {text: len(tokenizer.encode(text).ids) for text in read("xquad_en/queries.jsonl.gz")[:TEXTS]}
    short = sorted(length, key=length.get)[: TEXTS // 32 * 32]
    # The window is 256 tokens: 256 may be a longer text, cut.
    whole = lambda text: 200 <= len(tokenizer.encode(text).ids) < 256
    long = [text for text in read("cranfield/corpus.jsonl.gz") if whole(text)][:16]
    tokens = statistics.mean(length[text] for text in short)
    print(f"{len(short)} short texts of {tokens:.1f} tokens, {len(long)} passages, one text; {THREADS} threads")

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        onnx.save(build(model), folder / "f32.onnx")
        texts = folder / "texts"
        texts.write_text("\n".join([ONE, *short[1:], "", *long]) + "\n", encoding="utf-8")
        found = peers(folder)
        rates = {}
        for _ in range(ROUNDS):
            command = [program, "all-MiniLM-L6-v2", str(THREADS), str(texts)]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rates.setdefault("pg_answer", []).append([ours["short"], ours["long"], ours["one"]])
            for name, run in found.items():
                batches = lambda: [run(inputs(short[i : i + 32])) for i in range(0, len(short), 32)]
                per_second = [
                    rate(batches) * len(short),
                    rate(lambda: run(inputs(long))) * len(long),
                    rate(lambda: run(inputs([ONE]))),
                ]
                rates.setdefault(name, []).append(per_second)
        print("texts/s: batches of 32 short texts | passages | one text, each with our rate over it in the same rounds")
        for name, rounds in rates.items():
            columns = []
            for i in range(3):
                ratio = statistics.median(a[i] / b[i] for a, b in zip(rates["pg_answer"], rounds))
                columns.append(f"{statistics.median(r[i] for r in rounds):8.1f} ({ratio:.2f})")
            print(f"{name:34}", *columns)
        reference = np.load(fixtures / "embed/minilm_reference.npy")
        with open(fixtures / "embed/minilm_reference.jsonl", encoding="utf-8") as file:
            cases = [json.loads(line)["ids"] for line in file]
        for name, run in found.items():
            cosines = []
            for ids, want in zip(cases, reference):
                ids = np.array([ids], dtype=np.int64)
                got = run({"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
                cosines.append(float(got @ want / np.linalg.norm(got)))
            print(f"{name:34} cosine to the reference: mean {np.mean(cosines):.6f}, least {np.min(cosines):.6f}")


if len(sys.argv) == 2:
    one_by_one(pathlib.Path(sys.argv[1]))
else:
    beside_ours(sys.argv[1], *map(pathlib.Path, sys.argv[2:]))
