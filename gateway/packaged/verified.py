"""Run a model process on a model that is as it was when it was added: `python -m gateway.packaged.verified`.

Arguments: the models directory, the model's name, the module to run and its arguments. The digest is compared in the
process that then loads the file, at each start of it, so that a file that was changed after the gateway began is seen as
well. What must not live here: anything about engines; the module reports by itself once it runs.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from gateway.packaged.errors import PackagedModelError
from gateway.packaged.records import read_record, verify

BAD_MODEL = 65  # as `gateway.worker` says it: starting again would end the same way
MATTER = "its file is not the one that was added"


def main(argv: list[str]) -> None:
    """Verify the model, then become the module; exits with 65 and a report on standard output if it was changed."""
    models_dir, name, module, *arguments = argv
    try:
        record = read_record(name, Path(models_dir))
        if record is None:
            raise PackagedModelError(f"{name}: its record was removed; add the model again")
        verify(record, Path(models_dir))
    except PackagedModelError as error:
        # Adding it again does not change the file, which is what the gateway waits for.
        report = {"event": "failed", "reason": f"{error}, and start the gateway again", "matter": MATTER}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.exit(BAD_MODEL)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
