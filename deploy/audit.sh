#!/usr/bin/env bash
# Asks the advisory database about every version in constraints.txt. What could not be asked for has not been
# checked, and that is said: pip-audit by itself would call it a success.
set -euo pipefail
pip_audit=$1
found=$(mktemp)
trap 'rm -f "$found"' EXIT
known=0
"$pip_audit" --requirement constraints.txt --no-deps --disable-pip --format json --output "$found" \
  --progress-spinner off 2>/dev/null || known=$?
python3 - "$found" "$known" <<'PYTHON'
import json
import sys

try:
    with open(sys.argv[1], encoding="utf-8") as file:
        packages = json.load(file)["dependencies"]
except ValueError:
    sys.exit("Nothing was checked: no advisories can be asked for from here.")
asked = [each for each in packages if "vulns" in each]
for each in asked:
    for advisory in each["vulns"]:
        mended = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {advisory['id']}, mended in {mended}")
if not asked:
    sys.exit("Nothing was checked: no advisories can be asked for from here.")
print(f"{len(asked)} of {len(packages)} packages were checked.")
unsafe = any(each["vulns"] for each in asked)
sys.exit(1 if unsafe or len(asked) < len(packages) else int(sys.argv[2]))
PYTHON
