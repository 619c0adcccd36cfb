"""Runs every benchmark, one after the other, or one; ends non-zero if one could not be run.

    python benchmarks/run_all.py [NAME [OPTIONS]]      # as in: gradcam_speed.py --images 200

Each gets the reference libraries that it needs (`peers.py`), and its tests in tests/peers come
first: that both sides compute the same is known before their times are compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from peers import environment

HERE = Path(__file__).resolve().parent
BENCHMARKS = {  # each with its list of reference libraries, and the tests that stand on them
    "training_throughput.py": ("", ""),
    "standin_reads_mnist.py": ("", ""),
    "gradcam_speed.py": ("maps", "test_gradcam_peers.py"),
    "feature_visualisation.py": ("drawings", ""),
    "attack_strength.py": ("attacks", "test_attack_peers.py"),
    "sae_training.py": ("autoencoders", "test_sae_peers.py"),
    "on_gpu.py": ("", ""),
    "book_build.py": ("", ""),
    "page_network.py": ("", ""),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="by default all")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of this benchmark")
    chosen = parser.parse_args()
    failed = []
    for name in [chosen.name] if chosen.name else BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        peers, tests = BENCHMARKS[name]
        try:
            variables = environment(peers) if peers else os.environ
        except RuntimeError as error:
            print(f"not run: {error}", file=sys.stderr)
            failed.append(name)
            continue
        commands = [[str(HERE / name), *chosen.options]]
        if tests:
            path = str(HERE.parent / "tests" / "peers" / tests)
            commands.insert(0, ["-m", "pytest", "-rs", path])
        for command in commands:
            if subprocess.run([sys.executable, *command], env=variables).returncode:
                failed.append(f"{name} ({' '.join(command)})" if tests else name)
                break
    if failed:
        print(f"\nFAILED: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
