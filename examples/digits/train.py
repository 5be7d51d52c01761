"""Train a model that reads handwritten digits; write `model.joblib` and `golden.jsonl` beside this file.

The data ship with scikit-learn: 1,797 images of 8 x 8 pixels, each from 0 (white) to 16 (black). `--c 3` makes another
model, which is as good: a second version to release.
"""

import argparse
import json
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

HERE = Path(__file__).parent
LEAST_ACCURACY = 0.98


def golden(images: np.ndarray, digits: np.ndarray) -> dict[str, object]:
    """A request with one unseen image of each digit; its answer is what the images really show."""
    first = [int(np.flatnonzero(digits == digit)[0]) for digit in range(10)]
    pixels = images[first].astype(int).ravel().tolist()
    return {
        "request": {"inputs": [{"name": "images", "shape": [10, 64], "datatype": "FP64", "data": pixels}]},
        "expect": [{"name": "output-0", "shape": [10], "datatype": "INT64", "data": list(range(10))}],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--c", type=float, default=10, help="how much each wrong image counts")
    options = parser.parse_args()
    images, digits = load_digits(return_X_y=True)
    known, unseen, known_digits, unseen_digits = train_test_split(
        images, digits, test_size=0.25, random_state=0, stratify=digits
    )
    model = SVC(gamma=0.001, C=options.c).fit(known, known_digits)
    accuracy = model.score(unseen, unseen_digits)
    print(f"{accuracy:.1%} of {len(unseen)} unseen images are read right")
    if accuracy < LEAST_ACCURACY:
        sys.exit(f"that is less than {LEAST_ACCURACY:.0%}: nothing is written")
    joblib.dump(model, HERE / "model.joblib")
    (HERE / "golden.jsonl").write_text(json.dumps(golden(unseen, unseen_digits)) + "\n")


if __name__ == "__main__":
    main()
