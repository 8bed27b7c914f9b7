"""The LLM server's process: ``python -m config.stack.llm_server MODEL_FILE PORT``."""

import os
import signal
import sys
from pathlib import Path

import xllamacpp

SLOTS = 2
CONTEXT_TOKENS_PER_SLOT = 4096
# Half the cores. Threads wait for each other after every operation, so they crawl if another program uses one of their
# cores (measured on two cores: two threads fall from 100 tokens/s to under 10, one from 45 to 15).
THREADS = max(1, (os.cpu_count() or 1) // 2)


def main(model_file: str, port: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model_file
    # "SmolLM2-135M-Instruct.Q4_1.gguf" is the model "SmolLM2-135M-Instruct", quantized.
    parameters.model_alias = {Path(model_file).name.split(".", 1)[0]}
    parameters.port = int(port)
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT_TOKENS_PER_SLOT
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = THREADS
        # Sleep, not spin, between requests.
        threads.poll = 0
    _prefer_prose(parameters.sampling)
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.offline = True
    # llama.cpp logs prompts from level 4 on.
    parameters.verbosity = 2
    server = xllamacpp.Server(parameters)
    print(f"serving {model_file} at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _prefer_prose(sampling: xllamacpp.CommonParamsSampling) -> None:
    """Set defaults that keep such a small model from repeating itself; a request may override them.

    The DRY sampler stays off: it also penalizes spaces, so this small model would leave them out.
    """
    sampling.temp = 0.3
    sampling.penalty_repeat = 1.15
    sampling.penalty_last_n = 128


if __name__ == "__main__":
    main(*sys.argv[1:])
