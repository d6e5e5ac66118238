"""One step of the pipeline: rows are written, summed, looked at, and the sum reported."""

import json
import sys

ROWS, SUM = "/work/rows.json", "/work/sum.json"


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def store(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


step = sys.argv[1]
if step == "extract":
    store(ROWS, list(range(int(sys.argv[2]))))
elif step == "transform":
    store(SUM, sum(load(ROWS)))
elif step == "check":
    if not load(ROWS):
        sys.exit("there are no rows")
elif step == "report":
    print("the sum is", load(SUM))
