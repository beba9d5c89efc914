"""Wall time of ``import X`` in a fresh interpreter, interleaved: python benchmarks/import_time.py"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODULES = ("torch", "pnpkit", "deepinv")
REPEATS = 11


def seconds(module: str) -> float:
    """One cold interpreter, minus nothing: what a user waits for."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


def main(repeats: int = REPEATS) -> dict:
    """Medians and ratios to ``import torch``; written to benchmarks/results/import_time.{json,md}."""
    for module in MODULES:
        seconds(module)  # file cache
    times = {m: [] for m in MODULES}
    for _ in range(repeats):
        for module in MODULES:
            times[module].append(seconds(module))
    medians = {m: statistics.median(t) for m, t in times.items()}
    report = {
        "command": "python benchmarks/import_time.py",
        "repeats": repeats,
        "load": os.getloadavg(),
        "median_s": medians,
        "ratio_to_torch": {m: v / medians["torch"] for m, v in medians.items()},
    }
    lines = ["# Import time", "", f"`{report['command']}`, medians of {repeats}, load {report['load'][0]:.1f}", ""]
    lines += ["| import | seconds | × torch |", "|---|---|---|"]
    lines += [f"| {m} | {medians[m]:.2f} | {report['ratio_to_torch'][m]:.2f} |" for m in MODULES]
    folder = Path(__file__).parent / "results"
    (folder / "import_time.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "import_time.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return report


if __name__ == "__main__":
    main()
