"""Train two models on data that ship with scikit-learn; write `model.joblib` and `golden.jsonl` into two folders.

`digits` names the digit that an image of 8 x 8 pixels shows. `wine` tells which of three growers made a wine, from 13
measurements.
"""

import json
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent


def golden(inputs: np.ndarray, classes: np.ndarray, probabilities: np.ndarray) -> dict[str, object]:
    """A request for classes and probabilities: the classes are the true ones, the probabilities the model's."""
    tensor = {"name": "input-0", "shape": list(inputs.shape), "datatype": "FP64", "data": inputs.ravel().tolist()}
    return {
        "request": {"inputs": [tensor], "outputs": [{"name": "output-0"}, {"name": "predict_proba"}]},
        "expect": [
            {"name": "output-0", "datatype": "INT64", "data": classes.tolist()},
            {"name": "predict_proba", "datatype": "FP64", "data": probabilities.round(3).ravel().tolist()},
        ],
        "tolerance": 0.01,
    }


def train(folder: Path, load: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    inputs, classes = load(return_X_y=True)
    known, unseen, known_classes, unseen_classes = train_test_split(
        inputs, classes, test_size=0.25, random_state=0, stratify=classes
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, known_classes)
    print(f"{folder.name}: {model.score(unseen, unseen_classes):.1%} of {len(unseen)} unseen are right")
    request = golden(unseen[:3], unseen_classes[:3], model.predict_proba(unseen[:3]))
    joblib.dump(model, folder / "model.joblib")
    (folder / "golden.jsonl").write_text(json.dumps(request) + "\n")


if __name__ == "__main__":
    train(HERE / "digits", load_digits)
    train(HERE / "wine", load_wine)
