"""Look for known faults in the locked dependencies: `python -m scripts.audit`.

Exits with 0 where none is known, 1 where one is, 2 where nobody could be asked: then nothing is
known, which is not the same as none.
"""

from __future__ import annotations

import json
import subprocess
import sys

from scripts.lock import LOCKS, ROOT

DEADLINE_S = 300


def main() -> int:
    """Return the worst that was found in any lock."""
    worst = 0
    for name in LOCKS:
        worst = max(worst, audit(name))
    return worst


def audit(name: str) -> int:
    """Ask pip-audit about one lock, and say what came of it."""
    path = ROOT / "requirements" / f"{name}.txt"
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    options = ["--progress-spinner=off", "--format=json", "-r", str(path)]
    try:
        run = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        found = json.loads(run.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _not_audited(name, f"no answer within {DEADLINE_S} s")
    except (ValueError, KeyError):
        return _not_audited(name, (run.stderr.strip().splitlines() or ["it said nothing"])[-1])
    faults = [f"{each['name']} {v['id']}" for each in found for v in each.get("vulns", [])]
    if faults:
        print(f"{name}: known faults: {', '.join(faults)}", file=sys.stderr)
        return 1
    skipped = [each["name"] for each in found if "skip_reason" in each]
    if skipped:
        return _not_audited(
            name, f"{len(skipped)} packages could not be looked up: {skipped[0]} ..."
        )
    print(f"{name}: no known faults in {len(found)} packages")
    return 0


def _not_audited(name: str, reason: str) -> int:
    print(f"{name}: NOT AUDITED: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
