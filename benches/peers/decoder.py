"""llama.cpp as a peer of the decoder's benchmark: reads tasks from standard input, prints the seconds they take.

Arguments: GGUF file, threads, `clock` or `processor` for the time that is counted. A task is a line: tokens to write, and a list of token ids to read first. The answer is
a line: seconds of reading, seconds of writing (greedy). The first line names the version and how it was built.
"""

import json
import sys
import time

import llama_cpp
import numpy
from llama_cpp import Llama

path, threads = sys.argv[1], int(sys.argv[2])
now = time.perf_counter if sys.argv[3] == "clock" else time.process_time
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
    start = now()
    llama.eval(json.loads(ids))
    token = greedy()
    read = now() - start
    start = now()
    for _ in range(int(written)):
        llama.eval([token])
        token = greedy()
    print(read, now() - start, flush=True)
