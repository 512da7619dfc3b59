"""Start the worker: `python -m gateway.worker --model FILE.gguf --socket FILE.sock --name NAME`."""

from gateway.worker.process import main

if __name__ == "__main__":
    main()
