"""Runs every benchmark, one after the other; ends non-zero if one could not be run.

    python benchmarks/run_all.py

Those that need a reference library that is not installed are left out, and named.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = {  # each with the modules of the libraries that it needs beside the lock's
    "training_throughput.py": (),
    "standin_reads_mnist.py": (),
    "gradcam_speed.py": ("captum", "pytorch_grad_cam"),
    "feature_visualisation.py": ("lucent",),
    "attack_strength.py": ("adv_lib", "foolbox"),
    "book_build.py": (),
}


def main() -> int:
    failed = []
    for name, peers in BENCHMARKS.items():
        print(f"\n## {name}\n", flush=True)
        if missing := [peer for peer in peers if importlib.util.find_spec(peer) is None]:
            print(f"left out, for want of {', '.join(missing)}: pip install -e '.[peers]'")
            continue
        if subprocess.run([sys.executable, str(HERE / name)]).returncode:
            failed.append(name)
    if failed:
        print(f"\nFAILED: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
