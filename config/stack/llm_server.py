"""The LLM server's process: ``python -m config.stack.llm_server MODEL_FILE PORT``."""

import signal
import sys
from pathlib import Path

import xllamacpp

SLOTS = 2
CONTEXT_TOKENS_PER_SLOT = 4096
THREADS = 2


def main(model_file: str, port: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model_file
    # "SmolLM2-135M-Instruct.Q4_1.gguf" is the model "SmolLM2-135M-Instruct", quantised.
    parameters.model_alias = {Path(model_file).name.split(".", 1)[0]}
    parameters.port = int(port)
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT_TOKENS_PER_SLOT
    parameters.cpuparams.n_threads = THREADS
    parameters.cpuparams_batch.n_threads = THREADS
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.offline = True
    # llama.cpp logs prompts from level 4 on.
    parameters.verbosity = 2
    server = xllamacpp.Server(parameters)
    print(f"serving {model_file} at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main(*sys.argv[1:])
