"""llama.cpp as a peer of the decoder's benchmark: reads tasks from standard input, prints the seconds they take.

Arguments: GGUF file, threads. A task is a line: tokens to write, and a list of token ids to read first. The answer is
a line: seconds of reading, seconds of writing (greedy). The first line names the version and how it was built.
"""

import json
import sys
import time

import llama_cpp
import numpy
from llama_cpp import Llama

path, threads = sys.argv[1], int(sys.argv[2])
llama = Llama(path, n_ctx=4096, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
system = llama_cpp.llama_print_system_info().decode()
print(f"llama-cpp-python {llama_cpp.__version__}; {system}", flush=True)


def greedy():
    logits = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
    return int(numpy.ctypeslib.as_array(logits, (llama.n_vocab(),)).argmax())


for line in sys.stdin:
    written, ids = line.split(" ", 1)
    llama.reset()
    llama._ctx.kv_cache_clear()
    start = time.perf_counter()
    llama.eval(json.loads(ids))
    token = greedy()
    read = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(int(written)):
        llama.eval([token])
        token = greedy()
    print(read, time.perf_counter() - start, flush=True)
