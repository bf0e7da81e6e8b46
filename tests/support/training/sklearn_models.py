"""Trains scikit-learn models on its own data: skops and joblib files, and an MLflow folder."""

from pathlib import Path

import joblib
import pandas
import skops.io
from cases import ROWS, SEED, artifact_folder, classified, named_rows_of, rows_of, run, valued, write_case
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def main(out: Path) -> None:
    """Writes the cases `skops_classifier`, `joblib_pipeline`, `skops_regressor` and `mlflow`."""
    skops_classifier(out)
    joblib_pipeline(out)
    skops_regressor(out)
    mlflow(out)


def skops_classifier(out: Path) -> None:
    """Digits in one row of 64 numbers; the registry reads everything from the file."""
    x, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(x[:-ROWS], y[:-ROWS])
    file = artifact_folder(out, "skops_classifier") / "digits.skops"
    skops.io.dump(model, file)
    last = x[-ROWS:]
    expected = classified(model.predict(last).tolist(), model.predict_proba(last), model.classes_)
    write_case(file, "sklearn", rows_of(last), expected)


def joblib_pipeline(out: Path) -> None:
    """A data frame with a column of words, classes that are words, compressed. Its inputs must be declared."""
    table, progression = load_diabetes(return_X_y=True, as_frame=True)
    table = table.assign(sex=table["sex"].map(lambda value: "female" if value < 0 else "male"))
    grade = (progression > progression.median()).map({True: "severe", False: "mild"})
    numbers = [name for name in table.columns if name != "sex"]
    columns = ColumnTransformer(
        [("words", OneHotEncoder(handle_unknown="ignore"), ["sex"]), ("numbers", StandardScaler(), numbers)]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table[:-ROWS], grade[:-ROWS])
    file = artifact_folder(out, "joblib_pipeline") / "diabetes.joblib"
    joblib.dump(model, file, compress=3)
    last = table[-ROWS:]
    expected = classified(model.predict(last).tolist(), model.predict_proba(last), model.classes_)
    schema = {name: "string" if name == "sex" else {"type": "number", "format": "double"} for name in table.columns}
    write_case(file, "sklearn", last.to_dict("records"), expected, {"input_schema": schema})


def skops_regressor(out: Path) -> None:
    """Numbers by their names, and a number as the answer."""
    table, progression = load_diabetes(return_X_y=True, as_frame=True)
    model = GradientBoostingRegressor(n_estimators=40, random_state=SEED).fit(table[:-ROWS], progression[:-ROWS])
    file = artifact_folder(out, "skops_regressor") / "diabetes.skops"
    skops.io.dump(model, file)
    last = table[-ROWS:]
    write_case(
        file, "sklearn", named_rows_of(last.to_numpy(), list(table.columns)), valued(model.predict(last).tolist())
    )


def mlflow(out: Path) -> None:
    """The folder that MLflow writes of a model, without MLflow."""
    table, species = load_iris(return_X_y=True, as_frame=True)
    rest = table.sample(frac=1, random_state=SEED)
    model = RandomForestClassifier(20, random_state=SEED, n_jobs=-1).fit(rest[:-ROWS], species[rest.index[:-ROWS]])
    folder = artifact_folder(out, "mlflow")
    skops.io.dump(model, folder / "model.skops")
    flavors = "flavors:\n  sklearn:\n    code: null\n    pickled_model: model.skops\n    serialization_format: skops\n"
    (folder / "MLmodel").write_text(flavors)
    last = pandas.DataFrame(rest[-ROWS:])
    expected = classified(model.predict(last).tolist(), model.predict_proba(last), model.classes_)
    write_case(folder, "sklearn", named_rows_of(last.to_numpy(), list(table.columns)), expected)


if __name__ == "__main__":
    run(main)
